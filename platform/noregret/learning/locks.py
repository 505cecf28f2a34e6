"""Who may learn for an endpoint, and who may look for what is to be learned: one at a time, over
all workers.

A lock is a lease: a row with an expiry, renewed by whoever holds it at the start of each of its
transactions and every few seconds inside them. Advisory locks of the session were the alternative;
behind a pooler that lends a server connection for one transaction they stay on a connection that
nobody of ours holds, and a lock held in an open transaction would keep a connection of a small pool
for a whole round.

Whoever dies holds none once the lease has expired. Whoever is only slow and has lost it is fenced
off: each of its transactions locks the row and finds its token in it, or raises LeaseLost before it
changed anything; and while such a transaction is open, nobody else takes the lease, expired or not.
So what one holder read and then writes, another has not changed in between.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import structlog
from django.db import DatabaseError, connection, transaction
from psycopg.pq import TransactionStatus

log = structlog.get_logger(__name__)

LEASE_SECONDS = 10.0
"""So long after a holder's last sign of life its lease may be taken: longer than what a round does
between two statements."""
_SHADOWS_LEASE_SECONDS = 60.0
"""Between two statements of its round challengers are loaded and predict, each for seconds."""
_UNITS_LEASE_SECONDS = 60.0
"""Between two statements of its round arms of units are written to Redis, in bounded batches."""
_RETENTION_LEASE_SECONDS = 60.0
"""Between two statements of it tables are waited for, for a moment, and files looked at."""
_RENEWALS_A_LEASE = 3.0
_LONGEST_WAIT_MS = 1000

_TAKE = """
UPDATE learning_lease SET token = token + 1, expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE name = (
    SELECT name FROM learning_lease WHERE name = %(name)s AND expires_at <= clock_timestamp() FOR UPDATE SKIP LOCKED)
RETURNING token
"""
# Only where there is no row: beside one that a transaction has locked, the insertion would wait for
# the end of that transaction.
_MAKE = """
INSERT INTO learning_lease (name, token, expires_at)
SELECT %(name)s, 1, clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE NOT EXISTS (SELECT 1 FROM learning_lease WHERE name = %(name)s) ON CONFLICT (name) DO NOTHING
RETURNING token
"""
_RENEW = """
UPDATE learning_lease SET expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE name = %(name)s AND token = %(token)s
"""


class LeaseLost(Exception):
    """The lease expired, and another took it: what was begun under it must not go on."""


def endpoint_lock(endpoint_id: int) -> AbstractContextManager[bool]:
    """Is the lock of an endpoint ours?"""
    return _lease(f"endpoint:{endpoint_id}", LEASE_SECONDS)


def lookout_lock() -> AbstractContextManager[bool]:
    """Is it ours to look for what is to be done? Two beats make two ticks a second; one is
    enough."""
    return _lease("lookout", LEASE_SECONDS)


def shadows_lock() -> AbstractContextManager[bool]:
    """Is it ours to let shadows predict? Two at once would predict on the same copies twice."""
    return _lease("shadows", _SHADOWS_LEASE_SECONDS)


def units_lock() -> AbstractContextManager[bool]:
    """Is it ours to put arms of units back? More at once would keep the workers from learning."""
    return _lease("units", _UNITS_LEASE_SECONDS)


def retention_lock() -> AbstractContextManager[bool]:
    """Is it ours to take out what is old? Two at once would compute the same."""
    return _lease("retention", _RETENTION_LEASE_SECONDS)


@contextmanager
def bounded_wait() -> Iterator[None]:
    """A transaction that waits for no row longer than a second, for whoever has others to look
    after: an endpoint that somebody holds is then left for later. Raises
    django.db.OperationalError."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {_LONGEST_WAIT_MS}")
        yield


@contextmanager
def _lease(name: str, seconds: float) -> Iterator[bool]:
    token = _take(name, seconds)
    if token is None:
        yield False
        return
    try:
        with connection.execute_wrapper(_Fence(name, token, seconds)):
            yield True
    finally:
        _give_back(name, token)


def _take(name: str, seconds: float) -> int | None:
    """The token of the lease, which is ours now; None while another holds it."""
    with connection.cursor() as cursor:
        for statement in (_TAKE, _MAKE):
            cursor.execute(statement, {"name": name, "seconds": seconds})
            row = cursor.fetchone()
            if row is not None:
                return int(row[0])
    return None


def _give_back(name: str, token: int) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE learning_lease SET expires_at = to_timestamp(0) WHERE name = %s AND token = %s", [name, token]
            )
    except DatabaseError as error:  # it expires by itself
        log.warning("lease not given back", lease=name, error=str(error))


class _Fence:
    """Wraps every statement of this thread's connection while a lease is held; raises LeaseLost
    where it is ours no longer."""

    def __init__(self, name: str, token: int, seconds: float) -> None:
        self._parameters = {"name": name, "token": token, "seconds": seconds}
        self._renew_after = seconds / _RENEWALS_A_LEASE
        self._renewed = time.monotonic()
        self._reads_only = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        raw = connection.connection
        begins = connection.in_atomic_block and raw.info.transaction_status == TransactionStatus.IDLE
        if sql.startswith("SET TRANSACTION"):  # it must come before any query of its transaction
            result = execute(sql, params, many, context)
            self._reads_only = "READ ONLY" in sql
            if not self._reads_only:
                self._renew(raw)
            return result
        if begins:
            self._reads_only = False
        # A transaction that can write nothing needs no fence, and could not renew the lease.
        if not self._reads_only and (begins or time.monotonic() - self._renewed > self._renew_after):
            self._renew(raw)
        return execute(sql, params, many, context)

    def _renew(self, raw: Any) -> None:
        """By the connection itself: a cursor of Django's would come here again."""
        with connection.wrap_database_errors:
            renewed = raw.execute(_RENEW, self._parameters).rowcount
        if not renewed:
            raise LeaseLost(str(self._parameters["name"]))
        self._renewed = time.monotonic()
