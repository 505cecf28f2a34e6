"""One learner an endpoint at a time, over all workers: a lock of PostgreSQL that ends with the session that holds it."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

_LEARNING = 0x6E72  # the class of these locks, apart from other advisory locks


@contextmanager
def endpoint_lock(endpoint_id: int, *, wait: bool = False) -> Iterator[bool]:
    """Is the lock ours? Without `wait` a lock held by another answers no at once."""
    function = "pg_advisory_lock" if wait else "pg_try_advisory_lock"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s, %s)", [_LEARNING, endpoint_id])
        held = wait or bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_LEARNING, endpoint_id])
