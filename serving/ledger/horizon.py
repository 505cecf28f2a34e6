"""From when on the ledger has rows: days before are dropped, and nothing may come into them any
more.

Two kinds of work depend on which days are there. Whoever reads many of them, or writes into one
that is old, holds them for its transaction (`hold_days`); whoever drops a day needs that nobody
does (`free_days`), and comes again later otherwise.
"""

from datetime import datetime

from django.db import OperationalError, connection, transaction


def hold_days() -> None:
    """No day is dropped until this transaction ends. Waits for nobody but a drop that is under way,
    which takes moments.

    First thing in a transaction that reads one state of the database: the lock takes no snapshot,
    so what is seen is of after it.
    """
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE serving_ledgerhorizon IN ROW SHARE MODE")


def free_days() -> bool:
    """Does nobody hold the days, until this transaction ends? Never waits: whoever came behind
    would wait too."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE serving_ledgerhorizon IN EXCLUSIVE MODE NOWAIT")
    except OperationalError:
        return False
    return True


def begins_at() -> datetime | None:
    """Decisions before this instant are gone, and come in no more; None while none was dropped."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT begins_at FROM serving_ledgerhorizon")
        row = cursor.fetchone()
    return None if row is None else row[0]


def move_to(at: datetime) -> None:
    """Let the ledger begin at `at`, or later if it does already. In a transaction in which the days
    are free."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO serving_ledgerhorizon AS held (id, begins_at, rewritten) VALUES (1, %s, 0) "
            "ON CONFLICT (id) DO UPDATE SET begins_at = greatest(held.begins_at, EXCLUDED.begins_at)",
            [at],
        )


def rewritten() -> int:
    """How often units were taken out of rows: whoever computed from them before does so anew."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rewritten FROM serving_ledgerhorizon")
        row = cursor.fetchone()
    return 0 if row is None else int(row[0])


def count_rewriting() -> None:
    """Called in the transaction that takes a unit out of rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO serving_ledgerhorizon AS held (id, begins_at, rewritten) VALUES (1, NULL, 1) "
            "ON CONFLICT (id) DO UPDATE SET rewritten = held.rewritten + 1"
        )
