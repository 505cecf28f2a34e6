"""The log of decisions between web processes and the learner: append, read, forget.

Nobody else knows that it is Redis streams, one an endpoint. A web process appends with one round
trip, a deadline of 50 ms and no retries; in a cluster, to the server that has the stream. It speaks
the protocol with redis-py's connection and packer, not with its client: the client's retry, pool
and response layers cost more than the round trip itself (docs/adr/0003). Each request thread keeps
its own connection. Entries stay until the learner forgets them, after their rows are committed.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import redis
import structlog

from serving import redis_clients
from serving.clustered_redis import unsettled
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
_ASKING = b"*1\r\n$6\r\nASKING\r\n"

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
        self._appender = redis_clients.client(url, redis_clients.APPEND)
        self._shipper = redis_clients.client(url, redis_clients.SHIPPING)
        self._client = redis_clients.client(url, redis_clients.CONTROL)
        self._local = threading.local()
        # By server, None where it is not known which one has the stream.
        self._paused_until: dict[redis.Redis | None, float] = {}
        self._commands: dict[str, bytes] = {}  # by endpoint

    # For web processes.

    def append(self, endpoint: str, body: bytes) -> None:
        """Append one decision. Raises StreamUnavailable."""
        self._heed_pause(None)
        message = [self._command(endpoint) + _bulk(body)]
        asked: redis.Redis | None = None

        def send(server: redis.Redis, asking: bool) -> None:
            nonlocal asked
            asked = server
            self._heed_pause(server)
            self._exchange("appending", server, message, asking)

        try:
            redis_clients.at_owner(self._appender, self._keys.decisions(endpoint), send)
        except (redis.RedisError, OSError) as error:
            self._paused_until[asked] = time.monotonic() + PAUSE_SECONDS
            log.warning("decision not appended", reason=_reason(error), error=str(error))
            raise StreamUnavailable(_reason(error), str(error)) from error

    def append_many(self, endpoint: str, bodies: Sequence[bytes]) -> None:
        """Append all of `bodies`, in order, in one round trip that may take its time; requests then
        append again.

        Raises StreamUnavailable, and then some of them may be there.
        """
        key, command = self._keys.decisions(endpoint), self._command(endpoint)
        messages = [command + _bulk(body) for body in bodies]
        try:
            redis_clients.at_owner(
                self._shipper, key, lambda server, asking: self._exchange("shipping", server, messages, asking)
            )
        except (redis.RedisError, OSError) as error:
            raise StreamUnavailable(_reason(error), str(error)) from error
        self._paused_until = {}

    def _heed_pause(self, server: redis.Redis | None) -> None:
        if time.monotonic() < self._paused_until.get(server, 0.0):
            raise StreamUnavailable("paused", "paused after a failure")

    def _exchange(self, kind: str, server: redis.Redis, messages: Sequence[bytes], asking: bool) -> None:
        """Send commands on this thread's connection to a server, and read all answers. Raises
        redis.RedisError, or OSError."""
        connections: dict[redis.Redis, Any] | None = getattr(self._local, kind, None)
        if connections is None:
            connections = {}
            setattr(self._local, kind, connections)
        connection = connections.get(server)
        if connection is None:
            connection = connections[server] = server.connection_pool.make_connection()
        refused: redis.ResponseError | None = None
        try:
            connection.send_packed_command(
                [_ASKING + message for message in messages] if asking else messages, check_health=False
            )
            for _ in range(len(messages) * (1 + asking)):
                try:
                    connection.read_response(disable_decoding=True)
                except redis.ResponseError as error:
                    refused = error if refused is None or unsettled(error) else refused
        except (redis.RedisError, OSError):
            # What was sent may still be answered: a connection in that state would pair answers
            # with wrong requests.
            connection.disconnect()
            raise
        if refused is not None:
            raise refused

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
        for kind in ("appending", "shipping"):
            connections: dict[redis.Redis, Any] = getattr(self._local, kind, None) or {}
            for server in [*connections]:
                connections.pop(server).disconnect()
        for client in (self._appender, self._shipper, self._client):
            client.close()

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
        key = self._keys.decisions(endpoint)

        def ask(server: redis.Redis, asking: bool) -> list[tuple[bytes, list[bytes]]]:
            connection: Any = server.connection_pool.get_connection()
            try:
                if asking:
                    connection.send_command("ASKING")
                    connection.read_response()
                connection.send_command("XRANGE", key, _next(after), "+", "COUNT", limit)
                answer: list[tuple[bytes, list[bytes]]] = connection.read_response(disable_decoding=True)
            except BaseException as error:
                if not isinstance(error, redis.ResponseError):
                    connection.disconnect()  # what was asked may still be answered
                raise
            finally:
                server.connection_pool.release(connection)
            return answer

        return redis_clients.at_owner(self._client, key, ask)

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

    def oldest_of_each(self, endpoints: Sequence[str]) -> list[datetime | redis.RedisError | None]:
        """`oldest` of many, asked all at once: of a thousand streams it takes a tenth of what a
        pipeline of the client does, most of which went into its packing.

        Where a key is no stream, or its server is away and others of the cluster are not, that
        error. Raises redis.RedisError.
        """
        found: dict[str, datetime | redis.RedisError | None] = {}
        servers = redis_clients.by_shard(self._client, endpoints, self._keys.decisions)
        away = 0
        for server, names in servers:
            try:
                found.update(zip(names, self._oldest_at(server, names), strict=True))
            except (redis.ConnectionError, redis.TimeoutError) as error:
                away += 1
                if away == len(servers):
                    raise
                found.update(dict.fromkeys(names, error))
        for name, answer in found.items():
            if isinstance(answer, redis.ResponseError) and unsettled(answer):
                found[name] = self.oldest(name)
        return [found[name] for name in endpoints]

    def _oldest_at(self, server: redis.Redis, endpoints: Sequence[str]) -> list[datetime | redis.ResponseError | None]:
        found: list[datetime | redis.ResponseError | None] = []
        connection: Any = server.connection_pool.get_connection()
        try:
            for start in range(0, len(endpoints), CHUNK):
                asked = endpoints[start : start + CHUNK]
                connection.send_packed_command([b"".join(map(self._first, asked))], check_health=False)
                found.extend(_answered(connection) for _ in asked)
        except BaseException:
            connection.disconnect()  # what was asked may still be answered
            raise
        finally:
            server.connection_pool.release(connection)
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
    return "refused" if isinstance(error, redis.ResponseError) and not unsettled(error) else "unreachable"
