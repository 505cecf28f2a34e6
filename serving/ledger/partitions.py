"""Daily partitions of the ledger: made ahead, and for days that came unannounced without losing a
row.

Attaching a partition takes an exclusive lock on the default partition for a moment. Whoever waits
for that lock makes every writer behind it wait too, so the wait is bounded: it is better to let
rows go to the default partition, and to try again later.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from django.db.backends.utils import CursorWrapper

TABLES = ("serving_decision", "serving_reward", "serving_shadowprediction")
LOCK_TIMEOUT_MS = 500
# A day further back than any attribution window gets no partition of its own: what claims it has a
# wrong clock.
OLDEST_DAYS = 100


DAYS_MADE = 8
"""So many days may get their partition, one after another, while rows of them wait at the default
one.

Written again, they find it.
"""
_Written = TypeVar("_Written")


def written(write: Callable[[], _Written], refused: type[Exception]) -> _Written:
    """What `write` returns, which is a transaction of its own.

    It is called again where it raised `refused`, DAYS_MADE times at most. A row that waited at the
    default partition while its day was made is refused there, and finds the day the next time.
    """
    for _ in range(DAYS_MADE):
        with suppress(refused):
            return write()
    return write()


def ensure(cursor: CursorWrapper, first: date, last: date, tables: Sequence[str] = TABLES) -> int:
    """Make the partitions of these days (UTC), both ends included; how many were new. In the
    caller's transaction.

    Rows of such a day that lie in the default partition move into the new one. Where nothing is
    missing, no lock is taken. Raises django.db.OperationalError when the locks can't be had within
    LOCK_TIMEOUT_MS; rows then go to the default partition until a later call succeeds.
    """
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    if not _missing(cursor, days, tables):
        return 0
    cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('noregret.ledger.partitions'))")
    missing = _missing(cursor, days, tables)  # another may have made them while this one waited
    for table, day in missing:
        _make(cursor, table, day)
    cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    return len(missing)


def days_in_default(cursor: CursorWrapper, today: date) -> list[date]:
    """The days (UTC), none older than OLDEST_DAYS or dropped, of which rows lie in the default
    partitions."""
    days: set[date] = set()
    for table in TABLES:
        cursor.execute(
            f"SELECT DISTINCT (decided_at AT TIME ZONE 'UTC')::date FROM {table}_default WHERE decided_at >= "  # noqa: S608
            "greatest(%s, (SELECT begins_at FROM serving_ledgerhorizon))",
            [_start(today - timedelta(days=OLDEST_DAYS))],
        )
        days.update(row[0] for row in cursor.fetchall())
    return sorted(days)


def days(cursor: CursorWrapper) -> list[date]:
    """The days that have a partition of their own."""
    cursor.execute(
        "SELECT DISTINCT right(relname::text, 8) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = ANY(%s::regclass[]) AND relname::text ~ '_[0-9]{8}$'",
        [list(TABLES)],
    )
    return sorted(_day(row[0]) for row in cursor.fetchall())


def all_days_in_default(cursor: CursorWrapper, last: date) -> list[date]:
    """The days (UTC) up to `last`, however old, of which rows lie in the default partitions."""
    found: set[date] = set()
    for table in TABLES:
        cursor.execute(
            f"SELECT DISTINCT (decided_at AT TIME ZONE 'UTC')::date FROM {table}_default WHERE decided_at < %s",  # noqa: S608
            [_start(last + timedelta(days=1))],
        )
        found.update(row[0] for row in cursor.fetchall())
    return sorted(found)


def tables_before(cursor: CursorWrapper, day: date) -> list[tuple[str, str]]:
    """(table, partition) of the days before; also of partitions that were detached and are there
    still."""
    cursor.execute(
        "SELECT relname::text FROM pg_class WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = %s::regclass) "
        "AND relkind = 'r' AND relname::text ~ '_[0-9]{8}$'",
        [TABLES[0]],
    )
    names = [row[0].rpartition("_") for row in cursor.fetchall()]
    return sorted((table, f"{table}_{text}") for table, _, text in names if table in TABLES and _day(text) < day)


DROP_TIMEOUT_MS = 200


def drop(cursor: CursorWrapper, table: str, name: str) -> None:
    """Drop a day's partition, in the caller's transaction, which ends right after it.

    `DETACH ... CONCURRENTLY` is not for tables with a default partition. What this takes is an
    exclusive lock for a moment, and it waits for it no longer than writers may wait behind it.
    Raises django.db.OperationalError.
    """
    cursor.execute(f"SET LOCAL lock_timeout = {DROP_TIMEOUT_MS}")
    cursor.execute(_HELD, [[table], [name]])
    if cursor.fetchone():
        cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {name}")
    cursor.execute(f"DROP TABLE IF EXISTS {name}")


def empty_default(cursor: CursorWrapper, begins: datetime) -> int:
    """Take out of the default partitions what lies before the ledger's begin; how many rows."""
    count = 0
    for table in TABLES:
        cursor.execute(f"DELETE FROM {table}_default WHERE decided_at < %s", [begins])  # noqa: S608
        count += cursor.rowcount
    return count


def size(cursor: CursorWrapper) -> tuple[int, int]:
    """(bytes, about how many rows) of the whole ledger, by the database's own statistics."""
    cursor.execute(
        "SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint, coalesce(sum(n_live_tup), 0)::bigint "
        "FROM pg_stat_user_tables WHERE relid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = ANY(%s::regclass[]))",
        [list(TABLES)],
    )
    size_bytes, rows = cursor.fetchone()
    return int(size_bytes), int(rows)


def _day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


_HELD = """
SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = ANY(%s::regclass[]) AND relname = ANY(%s)
"""


def _missing(cursor: CursorWrapper, days: Sequence[date], tables: Sequence[str]) -> list[tuple[str, date]]:
    wanted = {_name(table, day): (table, day) for table in tables for day in days}
    # Not to_regclass: it would answer from a cache that does not yet know what another made while
    # this one waited for the lock.
    cursor.execute(_HELD, [list(tables), list(wanted)])
    held = {row[0] for row in cursor.fetchall()}
    return sorted(place for name, place in wanted.items() if name not in held)


def _make(cursor: CursorWrapper, table: str, day: date) -> None:
    # Names come from TABLES and a date, never from outside; identifiers can't be parameters.
    name, start, end = _name(table, day), _start(day), _start(day + timedelta(days=1))
    cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    # From here to the end of the transaction nobody writes to the default partition: a row of this
    # day that came in between the move and the attaching would make PostgreSQL refuse the
    # partition.
    cursor.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
    cursor.execute(f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE")
    cursor.execute(
        f"WITH moved AS (DELETE FROM {table}_default WHERE decided_at >= %s AND decided_at < %s RETURNING *) "  # noqa: S608
        f"INSERT INTO {name} SELECT * FROM moved",
        [start, end],
    )
    cursor.execute(
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
    )
