"""Daily partitions of the ledger: made ahead, and for days that came unannounced without losing a row."""

from datetime import UTC, date, datetime, timedelta

from django.db.backends.utils import CursorWrapper

TABLES = ("serving_decision", "serving_reward")


def _bounds(day: date) -> tuple[str, str]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start.isoformat(), (start + timedelta(days=1)).isoformat()


def ensure(cursor: CursorWrapper, first: date, last: date) -> int:
    """Make the partitions of these days, both ends included; how many were new. In the caller's transaction.

    Rows of such a day that lie in the default partition move into the new one: PostgreSQL would refuse it otherwise.
    """
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('noregret.ledger.partitions'))")
    made = 0
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        made += sum(_ensure_one(cursor, table, day) for table in TABLES)
    return made


def _ensure_one(cursor: CursorWrapper, table: str, day: date) -> bool:
    name = f"{table}_{day:%Y%m%d}"
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name])
    if cursor.fetchone()[0]:
        return False
    start, end = _bounds(day)
    # Names come from TABLES and a date, never from outside; identifiers can't be parameters.
    cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    cursor.execute(
        f"WITH moved AS (DELETE FROM {table}_default WHERE decided_at >= %s AND decided_at < %s RETURNING *) "  # noqa: S608
        f"INSERT INTO {name} SELECT * FROM moved",
        [start, end],
    )
    cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')")
    return True


def in_default(cursor: CursorWrapper) -> int:
    """Rows in the default partitions: there should be none for long."""
    total = 0
    for table in TABLES:
        cursor.execute(f"SELECT count(*) FROM {table}_default")  # noqa: S608 - as above
        total += int(cursor.fetchone()[0])
    return total
