"""One request to another machine and its answer, within bounds: one deadline for all of it from
the resolver to the last byte, a most of bytes, no redirect, and only to addresses that may be
reached.

httpcore keeps the connections and speaks HTTP. Each wait for the network below it is given what is
left of the deadline, so an answer that comes a byte at a time has no more time than another.
Timeouts of a read alone were rejected for that reason.
"""

import os
import select
import socket
import ssl
import threading
import time
import weakref
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore

from .addresses import AddressRefused
from .reach import Reach

MOST_CONNECTIONS = 16
IDLE_SECONDS = 30.0
"""After so long a connection that nobody used is not used again."""
_PART = 64 * 1024
_BYTES_OF_HEADERS = 100 * 1024  # more are never sent by an honest server; h11 refuses them too


class OutboundFailed(Exception):
    """The request got no answer that can be used; the message says why."""


class TooSlow(OutboundFailed):
    """The deadline passed."""


class TooLarge(OutboundFailed):
    """The answer has more bytes than were allowed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. `headers` have names in lower case; `body` is decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Call(threading.local):
    """The request that this thread makes."""

    until: float = 0.0  # time.monotonic
    connected: bool = False
    received: int = 0
    most: int = 0


_call = _Call()


def _left() -> float:
    seconds = _call.until - time.monotonic()
    if seconds <= 0.0:
        raise httpcore.TimeoutException("the deadline passed")
    return seconds


class _Stream(httpcore.NetworkStream):
    """A connection whose waits are bounded by what is left to the request."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.is_used = False
        """Is an answer awaited on it? The pool looks whether an idle connection has been closed
        while another thread may just have taken it."""
        self.has_more = False
        """Did bytes come with an answer that are past its end?"""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _left()
        try:
            self._socket.settimeout(left)
            part = self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        _call.received += len(part)
        if _call.received > _call.most:
            raise TooLarge("its answer has too many bytes")
        return part

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.is_used = True
        unsent = memoryview(buffer)
        while unsent:
            left = _left()
            try:
                self._socket.settimeout(left)
                sent = self._socket.send(unsent[:_PART])
            except TimeoutError as error:
                raise httpcore.WriteTimeout(str(error)) from error
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error
            unsent = unsent[sent:]

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._socket.settimeout(_left())
            return _Stream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname))
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:  # a certificate that is not the host's is one too
            self.close()
            raise httpcore.ConnectError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of an idle connection: what can be read is its end
            if self.is_used:
                return False
            if self.has_more or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                return True
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        return self._socket if info == "socket" else None


class _Backend(httpcore.NetworkBackend):
    """Opens connections to addresses that were checked in the same moment."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        _call.connected = True
        problem: OSError | None = None
        try:
            addresses = self._reach.addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} can't be resolved: {error}") from error
        for address in addresses:
            try:
                connection = socket.create_connection((address, port), timeout=_left())
            except TimeoutError as error:
                raise httpcore.ConnectTimeout(str(error)) from error
            except OSError as error:
                problem = error
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _Stream(connection)
        raise httpcore.ConnectError(str(problem))


class _Connection(httpcore.HTTPConnection):
    """Tells its stream when an answer has been read, and whether more came than the answer.

    httpcore keeps what was read past an answer, and would take it for the next caller's.
    """

    def read_whole(self, stream: httpcore.NetworkStream) -> None:
        if not isinstance(stream, _Stream):  # it speaks another protocol now, and ends with this answer
            return
        # Its parser has no public name. Where it can't be found, no connection is used twice.
        parser = getattr(self._connection, "_h11_state", None)
        stream.has_more = parser is None or bool(parser.trailing_data[0])
        stream.is_used = False

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        response = super().handle_request(request)
        response.extensions["read_whole"] = self.read_whole
        return response


class _Pool(httpcore.ConnectionPool):
    """As many as are made, for HttpClient counts them."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        super().__init__(max_connections=None, max_keepalive_connections=None, network_backend=backend)
        self._backend = backend

    def create_connection(self, origin: httpcore.Origin) -> httpcore.ConnectionInterface:
        return _Connection(origin, keepalive_expiry=IDLE_SECONDS, network_backend=self._backend)


@dataclass(frozen=True, slots=True)
class _Connections:
    """Of one process: threads and sockets don't survive a fork."""

    pool: httpcore.ConnectionPool
    turns: threading.BoundedSemaphore


class HttpClient:
    """Requests of many threads over connections that are kept. A forked child has connections of
    its own.

    At most `most_connections` are made at once, counted here: httpcore's own pool, once it is full,
    closes connections that another thread was just given.
    """

    def __init__(self, reach: Reach, most_connections: int = MOST_CONNECTIONS) -> None:
        self._reach = reach
        self._most = most_connections
        self._made: dict[int, _Connections] = {}  # by process

    def request(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        limit: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """The answer, whatever its status. `seconds` are for all of it, `limit` is the most bytes
        that its body may have.

        Raises OutboundFailed, AddressRefused. A request on a kept connection that its server
        closed in the same moment is made once more: so only what may be done twice is sent here.
        """
        _call.until, _call.most = time.monotonic() + seconds, limit + _BYTES_OF_HEADERS
        sent = {"Accept-Encoding": "identity", "User-Agent": "noregret", **(headers or {})}
        connections = self._connections()
        turns = connections.turns
        if not turns.acquire(timeout=max(seconds, 0.0)):
            raise TooSlow(f"it took longer than {seconds:.3g} s: {self._most} others wait for it")
        try:
            try:
                return _once(connections.pool, method, url, sent, body, limit)
            except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
                if _call.connected or _call.received:
                    raise
                return _once(connections.pool, method, url, sent, body, limit)
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise TooSlow(f"it took longer than {seconds:.3g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
            raise OutboundFailed(f"{type(error).__name__}: {error}") from error
        finally:
            turns.release()

    def close(self) -> None:
        made = self._made.pop(os.getpid(), None)
        if made is not None:
            made.pool.close()

    def _connections(self) -> _Connections:
        process = os.getpid()
        made = self._made.get(process)
        if made is not None:
            return made
        pool = _Pool(_Backend(self._reach))
        # One of those that come first at once; another has opened nothing.
        made = self._made.setdefault(process, _Connections(pool, threading.BoundedSemaphore(self._most)))
        if made.pool is pool:
            weakref.finalize(self, _close, process, pool)
        return made


def _once(
    pool: httpcore.ConnectionPool, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit: int
) -> Answer:
    _call.connected, _call.received = False, 0
    sent = list(headers.items())
    with pool.stream(method, url, headers=sent, content=body) as response:
        told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        unpack = _unpacker(told.get("content-encoding", ""))
        if told.get("content-length", "0").isdecimal() and int(told.get("content-length", "0")) > limit:
            raise TooLarge(f"its answer has more than {limit} bytes")
        answer = bytearray()
        for part in response.iter_stream():
            unpacked = unpack(part, limit + 1 - len(answer))
            answer += unpacked
            if len(answer) > limit:
                raise TooLarge(f"its answer has more than {limit} bytes")
        response.extensions["read_whole"](response.extensions["network_stream"])
        return Answer(response.status, told, bytes(answer))


def _close(process: int, pool: httpcore.ConnectionPool) -> None:
    if process == os.getpid():
        pool.close()


def _unpacker(encoding: str) -> Any:
    """A function of a part and the most bytes that are wanted of it. Raises OutboundFailed for an
    encoding that nobody asked for and few send.
    """
    if encoding in ("", "identity"):
        return lambda part, most: part
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise OutboundFailed(f"its answer is encoded as {encoding[:40]}, which was not asked for")
    inflating = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def unpack(part: bytes, most: int) -> bytes:
        try:
            return inflating.decompress(part, max(most, 1))
        except zlib.error as error:
            raise OutboundFailed(f"its answer can't be decompressed: {error}") from error

    return unpack


__all__ = ["AddressRefused", "Answer", "HttpClient", "OutboundFailed", "TooLarge", "TooSlow"]
