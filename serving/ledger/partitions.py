"""Daily partitions of the ledger: made ahead, and for days that came unannounced without losing a row.

Attaching a partition takes an exclusive lock on the default partition for a moment. Whoever waits for that lock makes every writer behind
it wait too, so the wait is bounded: it is better to let rows go to the default partition, and to try again later.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from django.db.backends.utils import CursorWrapper

TABLES = ("serving_decision", "serving_reward", "serving_shadowprediction")
LOCK_TIMEOUT_MS = 500
# A day further back than any attribution window gets no partition of its own: what claims it has a wrong clock.
OLDEST_DAYS = 100


def ensure(cursor: CursorWrapper, first: date, last: date, tables: Sequence[str] = TABLES) -> int:
    """Make the partitions of these days (UTC), both ends included; how many were new. In the caller's transaction.

    Rows of such a day that lie in the default partition move into the new one. Where nothing is missing, no lock is taken. Raises
    django.db.OperationalError when the locks can't be had within LOCK_TIMEOUT_MS; rows then go to the default
    partition until a later call succeeds.
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
    """The days (UTC), none older than OLDEST_DAYS, of which rows lie in the default partitions."""
    days: set[date] = set()
    for table in TABLES:
        cursor.execute(
            f"SELECT DISTINCT (decided_at AT TIME ZONE 'UTC')::date FROM {table}_default WHERE decided_at >= %s",  # noqa: S608
            [_start(today - timedelta(days=OLDEST_DAYS))],
        )
        days.update(row[0] for row in cursor.fetchall())
    return sorted(days)


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
    # Not to_regclass: it would answer from a cache that does not yet know what another made while this one waited for the lock.
    cursor.execute(_HELD, [list(tables), list(wanted)])
    held = {row[0] for row in cursor.fetchall()}
    return sorted(place for name, place in wanted.items() if name not in held)


def _make(cursor: CursorWrapper, table: str, day: date) -> None:
    # Names come from TABLES and a date, never from outside; identifiers can't be parameters.
    name, start, end = _name(table, day), _start(day), _start(day + timedelta(days=1))
    cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    # From here to the end of the transaction nobody writes to the default partition: a row of this day that came in between the move
    # and the attaching would make PostgreSQL refuse the partition.
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
