"""The log of decisions between web processes and the learner: append, read, forget.

Nobody else knows that it is Redis streams, one an endpoint. A web process appends with one round
trip, a deadline of 50 ms and no retries. It speaks the protocol with redis-py's connection and
packer, not with its client: the client's retry, pool and response layers cost more than the round
trip itself (docs/adr/0003). Each request thread keeps its own connection. Entries stay until the
learner forgets them, after their rows are committed.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import redis
import structlog

from serving import redis_clients
from serving.redis_keys import BODY_FIELD, Keys

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0
"""After a failure no request asks Redis again for this long: while it hangs, requests must not each
wait out the deadline."""
TOLD_SECONDS = 15
"""What is told of a disk is forgotten after so long, so that a machine that is gone holds nobody
up."""
CHUNK = 2500
"""Entries that one command reads or forgets: Redis answers nobody else meanwhile."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# KEYS[1] {NAME}:spooled   ARGV[1] time of the oldest decision, µs
# ARGV[2] seconds that it is remembered
# Of several machines the one that waits longest counts.
_TELL = """
local told = redis.call('GET', KEYS[1])
if not told or tonumber(told) >= tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
"""


class StreamUnavailable(Exception):
    """The entry may not have reached the stream. It may also have: writing it again is harmless,
    for its id is its own.

    `reason`: `full` where Redis is at its `maxmemory`, `refused` where it said something else,
    `unreachable`, or `paused` after any of them.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Entry(NamedTuple):
    """An entry of a stream; `body` is None where it is none of ours, and `content` what it holds
    instead."""

    id: bytes
    body: bytes | None
    content: bytes = b""


class DecisionLog:
    """The streams of all endpoints, for all threads of a process. Nothing is connected before it is
    used.

    Appending raises StreamUnavailable. The learner's calls raise redis.RedisError, for it uses
    Redis for other things too.
    """

    def __init__(self, url: str, keys: Keys) -> None:
        self._keys = keys
        self._appending = redis_clients.pool(url, redis_clients.APPEND)
        self._shipping = redis_clients.pool(url, redis_clients.SHIPPING)
        self._shipper = redis.Redis(connection_pool=self._shipping)
        self._client = redis_clients.client(url, redis_clients.CONTROL)
        self._local = threading.local()
        self._paused_until = 0.0
        self._commands: dict[str, bytes] = {}  # by endpoint

    # For web processes.

    def append(self, endpoint: str, body: bytes) -> None:
        """Append one decision. Raises StreamUnavailable."""
        if time.monotonic() < self._paused_until:
            raise StreamUnavailable("paused", "paused after a failure")
        connection: Any = getattr(self._local, "appending", None)
        if connection is None:
            connection = self._local.appending = self._appending.make_connection()
        try:
            connection.send_packed_command([self._command(endpoint) + _bulk(body)], check_health=False)
            connection.read_response(disable_decoding=True)
        except (redis.RedisError, OSError) as error:
            # What was sent may still be answered: a connection in that state would pair answers
            # with wrong requests.
            connection.disconnect()
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            log.warning("decision not appended", reason=_reason(error), error=str(error))
            raise StreamUnavailable(_reason(error), str(error)) from error

    def append_many(self, endpoint: str, bodies: Sequence[bytes]) -> None:
        """Append all of `bodies`, in order, in one round trip that may take its time; requests then
        append again.

        Raises StreamUnavailable, and then some of them may be there.
        """
        connection: Any = getattr(self._local, "shipping", None)
        if connection is None:
            connection = self._local.shipping = self._shipping.make_connection()
        command = self._command(endpoint)
        try:
            connection.send_packed_command([command + _bulk(body) for body in bodies], check_health=False)
            for _ in bodies:
                connection.read_response(disable_decoding=True)
        except (redis.RedisError, OSError) as error:
            connection.disconnect()  # what is still to be answered would be taken for later answers
            raise StreamUnavailable(_reason(error), str(error)) from error
        self._paused_until = 0.0

    def _command(self, endpoint: str) -> bytes:
        """The unchanging part of `XADD key * d BODY` in RESP, made once an endpoint."""
        command = self._commands.get(endpoint)
        if command is None:
            words = (b"XADD", self._keys.decisions(endpoint).encode(), b"*", BODY_FIELD)
            command = self._commands[endpoint] = b"*5\r\n" + b"".join(map(_bulk, words))
        return command

    def tell_held_back(self, endpoint: str, since_us: int) -> None:
        """The learner, that decisions wait on a disk here, the oldest made `since_us` (µs since
        1970). Raises redis.RedisError."""
        self._shipper.eval(_TELL, 1, self._keys.spooled(endpoint), str(since_us), str(TOLD_SECONDS))

    def close(self) -> None:
        """The connections of this thread."""
        for name in ("appending", "shipping"):
            connection: Any = getattr(self._local, name, None)
            if connection is not None:
                connection.disconnect()
                setattr(self._local, name, None)
        self._shipper.close()
        self._client.close()

    # For the learner.

    def read(self, endpoint: str, limit: int, after: bytes | None = None) -> list[Entry]:
        """The oldest entries, at most `limit`; with `after`, of those behind that entry. They stay
        there. Raises redis.RedisError."""
        entries: list[Entry] = []
        while len(entries) < limit:
            asked = min(CHUNK, limit - len(entries))
            chunk = self._range(endpoint, after, asked)
            for entry_id, fields in chunk:
                good = len(fields) == 2 and fields[0] == BODY_FIELD
                entries.append(Entry(entry_id, fields[1]) if good else Entry(entry_id, None, repr(fields).encode()))
            if len(chunk) < asked:
                break
            after = entries[-1].id
        return entries

    def _range(self, endpoint: str, after: bytes | None, limit: int) -> list[tuple[bytes, list[bytes]]]:
        """XRANGE as it is answered: the client would make a dictionary of each entry, which takes
        as long as Redis does."""
        connection: Any = self._client.connection_pool.get_connection()
        try:
            connection.send_command("XRANGE", self._keys.decisions(endpoint), _next(after), "+", "COUNT", limit)
            answer: list[tuple[bytes, list[bytes]]] = connection.read_response(disable_decoding=True)
        except BaseException as error:
            if not isinstance(error, redis.ResponseError):
                connection.disconnect()  # what was asked may still be answered
            raise
        finally:
            self._client.connection_pool.release(connection)
        return answer

    def entries(self, endpoint: str) -> Iterator[Entry]:
        """Every entry, oldest first, read a chunk at a time. Raises redis.RedisError."""
        after: bytes | None = None
        while chunk := self.read(endpoint, CHUNK, after):
            yield from chunk
            after = chunk[-1].id

    def forget(self, endpoint: str, entry_ids: Sequence[bytes]) -> None:
        """Take entries out, after their rows are committed. Raises redis.RedisError."""
        if entry_ids:
            with self._client.pipeline(transaction=False) as pipeline:
                for start in range(0, len(entry_ids), CHUNK):
                    pipeline.xdel(self._keys.decisions(endpoint), *entry_ids[start : start + CHUNK])
                pipeline.execute()

    def replace(self, endpoint: str, entry_id: bytes, body: bytes) -> None:
        """Put `body` in an entry's place: at the end, in one step. Raises redis.RedisError."""
        key = self._keys.decisions(endpoint)
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.xadd(key, {BODY_FIELD: body})
            pipeline.xdel(key, entry_id)
            pipeline.execute()

    def oldest(self, endpoint: str) -> datetime | None:
        """When the oldest entry was appended, by Redis's clock, or None for an empty stream. Raises
        redis.RedisError."""
        first = self.read(endpoint, 1)
        return appended_at(first[0].id) if first else None

    def oldest_of_each(self, endpoints: Sequence[str]) -> list[datetime | redis.ResponseError | None]:
        """`oldest` of many, asked all at once: of a thousand streams it takes a tenth of what a
        pipeline of the client does, most of which went into its packing.

        Where a key is no stream, that error. Raises redis.RedisError.
        """
        found: list[datetime | redis.ResponseError | None] = []
        connection: Any = self._client.connection_pool.get_connection()
        try:
            for start in range(0, len(endpoints), CHUNK):
                asked = endpoints[start : start + CHUNK]
                connection.send_packed_command([b"".join(map(self._first, asked))], check_health=False)
                found.extend(_answered(connection) for _ in asked)
        except BaseException:
            connection.disconnect()  # what was asked may still be answered
            raise
        finally:
            self._client.connection_pool.release(connection)
        return found

    def _first(self, endpoint: str) -> bytes:
        """`XRANGE key - + COUNT 1` in RESP."""
        return b"*6\r\n$6\r\nXRANGE\r\n%b$1\r\n-\r\n$1\r\n+\r\n$5\r\nCOUNT\r\n$1\r\n1\r\n" % _bulk(
            self._keys.decisions(endpoint).encode()
        )

    def held_back_since(self, endpoint: str) -> datetime | None:
        """Since when decisions wait on the disk of a web process, as those told, or None. Raises
        redis.RedisError."""
        told: Any = self._client.get(self._keys.spooled(endpoint))
        try:
            return None if told is None else _EPOCH + timedelta(microseconds=min(int(told), 2**55))
        except ValueError:  # not ours
            return None


def appended_at(entry_id: bytes) -> datetime:
    """When an entry was appended, by Redis's clock."""
    return _EPOCH + timedelta(milliseconds=int(entry_id.split(b"-")[0]))


def _answered(connection: Any) -> datetime | redis.ResponseError | None:
    """When the first of the entries that come next was appended, if one comes."""
    try:
        entries: list[tuple[bytes, list[bytes]]] = connection.read_response(disable_decoding=True)
    except redis.ResponseError as error:
        return error
    return appended_at(entries[0][0]) if entries else None


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _next(after: bytes | None) -> bytes:
    if after is None:
        return b"-"
    milliseconds, number = after.split(b"-")
    return b"%b-%d" % (milliseconds, int(number) + 1)


def _reason(error: Exception) -> str:
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return "full"
    return "refused" if isinstance(error, redis.ResponseError) else "unreachable"
