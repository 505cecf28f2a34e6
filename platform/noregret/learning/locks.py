"""Who may learn for an endpoint, and who may look for what is to be learned: one at a time, over all workers.

Locks of the session, not of a transaction: a round commits several times. They end with the session that holds them, so whoever
dies holds none. Nothing's correctness rests on them: every step is safe beside itself, and the lock only spares double work.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from django.db import connection

_LEARNING = 0x6E72  # the class of these locks, apart from other advisory locks


def endpoint_lock(endpoint_id: int, *, wait: bool = False) -> AbstractContextManager[bool]:
    """Is the lock of an endpoint ours? Without `wait` a lock held by another answers no at once."""
    # PostgreSQL's two-key locks are of 32 bits; ids that far apart never meet in practice, and meeting costs only a turn.
    return _lock(endpoint_id % 2**31, wait=wait)


def lookout_lock() -> AbstractContextManager[bool]:
    """Is it ours to look for what is to be done? Two beats make two ticks a second; one is enough."""
    return _lock(-1, wait=False)


def shadows_lock() -> AbstractContextManager[bool]:
    """Is it ours to let shadows predict? Two at once would predict on the same copies twice."""
    return _lock(-2, wait=False)


def retention_lock() -> AbstractContextManager[bool]:
    """Is it ours to take out what is old? Two at once would compute the same."""
    return _lock(-3, wait=False)


@contextmanager
def _lock(key: int, *, wait: bool) -> Iterator[bool]:
    function = "pg_advisory_lock" if wait else "pg_try_advisory_lock"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s, %s)", [_LEARNING, key])
        held = wait or bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_LEARNING, key])
