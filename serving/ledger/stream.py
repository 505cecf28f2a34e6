"""Appends decisions to their Redis stream: one round trip, a deadline of 50 ms, no retries; and many at once, for those who have time.

Written against the protocol with redis-py's connection and packer, not with its client: the client's retry, pool and response layers cost
more than the round trip itself (docs/adr/0003). Each request thread keeps its own connection.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
import structlog

from serving import redis_clients

log = structlog.get_logger(__name__)

# After a failure nobody asks Redis again for this long: while it hangs, requests must not each wait out the deadline.
PAUSE_SECONDS = 1.0


class StreamUnavailable(Exception):
    """The entry may not have reached the stream. It may also have: writing it again is harmless, for its id is its own.

    `reason`: `full` where Redis is at its `maxmemory`, `refused` where it said something else, `unreachable`, or `paused` after any of
    them.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def prepare(key: str) -> bytes:
    """The unchanging part of `XADD key * d BODY` in RESP; made once an endpoint."""
    return b"*5\r\n" + _bulk(b"XADD") + _bulk(key.encode()) + _bulk(b"*") + _bulk(b"d")


class StreamWriter:
    """Appends for all threads of a process."""

    def __init__(self, url: str) -> None:
        self._pool = redis_clients.pool(url, redis_clients.APPEND)
        self._local = threading.local()
        self._paused_until = 0.0

    def _connection(self) -> Any:
        # Any: the library's connections have no types of their own.
        connection: Any = getattr(self._local, "connection", None)
        if connection is None:
            made = self._pool.make_connection()
            self._local.connection = connection = made
        return connection

    def resume(self) -> None:
        """Ask Redis again: somebody else has just appended."""
        self._paused_until = 0.0

    def append(self, prepared: bytes, body: bytes) -> None:
        """Append `body` to the stream that `prepared` names. Raises StreamUnavailable."""
        if time.monotonic() < self._paused_until:
            raise StreamUnavailable("paused", "paused after a failure")
        connection = self._connection()
        try:
            connection.send_packed_command([prepared + _bulk(body)], check_health=False)
            connection.read_response(disable_decoding=True)
        except (redis.RedisError, OSError) as error:
            # What was sent may still be answered: a connection in that state would pair answers with wrong requests.
            connection.disconnect()
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            log.warning("decision not appended", reason=_reason(error), error=str(error))
            raise StreamUnavailable(_reason(error), str(error)) from error

    def close(self) -> None:
        connection: Any = getattr(self._local, "connection", None)
        if connection is not None:
            connection.disconnect()
            self._local.connection = None


class BulkWriter:
    """Appends many entries in one round trip, on a connection of its own; for one thread."""

    def __init__(self, url: str) -> None:
        # Any: the library's connections have no types of their own.
        self._connection: Any = redis_clients.pool(url, redis_clients.SHIPPING).make_connection()

    def append(self, prepared: bytes, bodies: Sequence[bytes]) -> None:
        """Append all of `bodies`, in order. Raises StreamUnavailable, and then some of them may be there."""
        try:
            self._connection.send_packed_command([prepared + _bulk(body) for body in bodies], check_health=False)
            for _ in bodies:
                self._connection.read_response(disable_decoding=True)
        except (redis.RedisError, OSError) as error:
            self._connection.disconnect()  # what is still to be answered would be taken for later answers
            raise StreamUnavailable(_reason(error), str(error)) from error

    def close(self) -> None:
        self._connection.disconnect()


def _reason(error: Exception) -> str:
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return "full"
    return "refused" if isinstance(error, redis.ResponseError) else "unreachable"
