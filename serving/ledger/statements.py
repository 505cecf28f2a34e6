"""Statements of the serving connections: bounded in time, with arrays as text.

A driver that adapts arrays element by element takes longer than PostgreSQL does to write the rows.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import ClientCursor, Connection

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STATEMENT_TIMEOUT_MS = 2000
# Sent before a statement in the same message: one round trip, and both are one transaction.
_BOUNDED = f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};"


def array(elements: Iterable[str]) -> str:
    """Of elements that need no quotes, or have them."""
    return f"{{{','.join(elements)}}}"


def instant(us: int, seconds_later: float = 0.0) -> str:
    """A time in microseconds since 1970 UTC as a statement takes it."""
    return (EPOCH + timedelta(microseconds=us, seconds=seconds_later)).isoformat()


def run(connection: Connection, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of a statement that ends within STATEMENT_TIMEOUT_MS; a transaction of its own,
    unless one has begun."""
    # This cursor binds here: the server takes several statements in a message only without
    # parameters.
    cursor = ClientCursor(connection)
    cursor.execute(_BOUNDED + statement, parameters)
    cursor.nextset()
    return cursor.fetchall()
