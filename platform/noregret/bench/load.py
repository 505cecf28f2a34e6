"""A load generator that keeps a number of connections busy, each with one request under way.

One thread and bare sockets, for it shares the machine with what it measures: an HTTP client's own
cost would be most of the figure. It finds what a service can do at most; how long requests take at
a given rate is `open_loop`'s.
"""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Request = Callable[[], bytes]

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
"""A service from which nothing has come for this long is taken for stuck."""


class LoadFailed(Exception):
    """The service answered otherwise than it should, or not at all."""


@dataclass(slots=True)
class Measured:
    """Requests answered in `seconds`, and how long each took, in seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, q: float) -> float:
        """The q-quantile of the latencies, in milliseconds; 0 where nothing was answered."""
        ordered = sorted(self.latencies)
        return 1000.0 * ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and the status that each answer must have."""

    host: str
    port: int
    request: Request
    expected: int = 200


@dataclass(slots=True)
class Connection:
    """One connection with at most one request under way; `since` is what its latency counts
    from."""

    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    since: float = 0.0

    @classmethod
    def to(cls, target: Target) -> "Connection":
        opened = socket.create_connection((target.host, target.port), timeout=CONNECT_SECONDS)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(opened)

    def send(self, request: bytes, since: float) -> None:
        self.since = since
        self.socket.sendall(request)

    def receive(self, expected: int) -> bool:
        """Take what came; True when an answer is complete. Raises LoadFailed."""
        received = self.socket.recv(65536)
        if not received:
            raise LoadFailed("the service closed a connection")
        buffer = self.buffer
        buffer += received
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            return False
        if not _is_whole(buffer, head):
            return False
        if not buffer.startswith(b"HTTP/1.1 %d" % expected):
            raise LoadFailed(buffer.decode(errors="replace")[:500])
        buffer.clear()
        return True


def _is_whole(buffer: bytearray, head: int) -> bool:
    """Is the body there, after a head that ends at `head`? Raises LoadFailed where nobody can
    say."""
    mark = buffer[:head].lower().find(b"content-length:")
    if mark >= 0:
        return len(buffer) >= head + 4 + int(buffer[mark + 15 : buffer.find(b"\r\n", mark)])
    if b"transfer-encoding: chunked" in buffer[:head].lower():
        return buffer.endswith(b"\r\n0\r\n\r\n")
    raise LoadFailed(f"an answer without a length: {bytes(buffer[:300])!r}")


def http(method: str, path: str, key: str = "", body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


@contextlib.contextmanager
def connected(target: Target, selector: selectors.BaseSelector, connections: int) -> Iterator[list[Connection]]:
    """So many connections, read through `selector`. Raises LoadFailed for whatever goes wrong with
    one."""
    opened: list[Connection] = []
    try:
        for _ in range(connections):
            opened.append(Connection.to(target))
            selector.register(opened[-1].socket, selectors.EVENT_READ, opened[-1])
        yield opened
    except OSError as error:
        raise LoadFailed(str(error)) from error
    finally:
        for connection in opened:
            connection.socket.close()


def load(target: Target, *, connections: int, seconds: float) -> Measured:
    """Keep `connections` busy for `seconds`. Raises LoadFailed."""
    measured = Measured()
    with selectors.DefaultSelector() as selector, connected(target, selector, connections) as opened:
        start = heard = time.perf_counter()
        for connection in opened:
            connection.send(target.request(), time.perf_counter())
        end = start + seconds
        while (now := time.perf_counter()) < end:
            ready = selector.select(timeout=min(end - now, SILENCE_SECONDS))
            for key, _ in ready:
                connection = key.data
                if connection.receive(target.expected):
                    heard = time.perf_counter()
                    measured.latencies.append(heard - connection.since)
                    connection.send(target.request(), heard)
            if not ready and time.perf_counter() - heard > SILENCE_SECONDS:
                raise LoadFailed(f"nothing was answered for {SILENCE_SECONDS:g} s")
        measured.seconds = time.perf_counter() - start
    return measured
