"""Connections to PostgreSQL whose callers wait for so long and no longer.

A statement's own limit is kept by the server. One that is suspended, or on a machine that is gone,
keeps none, and its callers would wait with it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg.pq import TransactionStatus

_SHORTEST_CONNECT_SECONDS = 2
"""libpq takes no less."""


class _Limit(threading.local):
    seconds: float | None = None


_limit = _Limit()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Each answer of PostgreSQL that this thread waits for comes within `seconds`, or the
    connection is given up: psycopg.OperationalError. What was asked may have been done all the
    same.
    """
    before = _limit.seconds
    _limit.seconds = seconds if before is None else min(before, seconds)
    try:
        yield
    finally:
        _limit.seconds = before


class BoundedConnection(psycopg.Connection[Any]):
    """Waits as `within` says; outside of it, for as long as it takes."""

    @classmethod
    def connect(cls, conninfo: str = "", **given: Any) -> Self:
        """As psycopg's; `connect_timeout` is no longer than `within` says."""
        if _limit.seconds is not None:
            longest = max(_SHORTEST_CONNECT_SECONDS, round(_limit.seconds))
            given["connect_timeout"] = min(longest, int(given.get("connect_timeout") or longest))
        return super().connect(conninfo, **given)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        seconds = _limit.seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval=interval, timeout=seconds)
        except psycopg.OperationalError as error:
            if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()  # nobody knows what comes of it
            raise psycopg.OperationalError(f"PostgreSQL did not answer within {seconds:g} s") from error
