"""A load generator: keeps a number of connections busy for a time, each with one request under way.

One thread and bare sockets, for it shares the machine with what it measures: an HTTP client's own cost would be most of the figure.
"""

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Request = Callable[[], bytes]


class LoadFailed(Exception):
    """The service answered otherwise than it should."""


@dataclass(slots=True)
class Measured:
    """Requests answered in `seconds`, and how long each took, in seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, q: float) -> float:
        """The q-quantile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000.0 * ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    def __add__(self, other: "Measured") -> "Measured":
        return Measured(self.seconds + other.seconds, self.latencies + other.latencies)


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    sent_at: float = 0.0


def http(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def load(host: str, port: int, *, request: Request, connections: int, seconds: float, expected: int) -> Measured:
    """Keep `connections` busy with what `request` gives for `seconds`. Raises LoadFailed for a status not `expected`."""
    measured = Measured()
    good = f"HTTP/1.1 {expected} ".encode()
    with selectors.DefaultSelector() as selector:
        open_connections = [
            _Connection(socket.create_connection((host, port), timeout=10.0)) for _ in range(connections)
        ]
        try:
            start = time.perf_counter()
            for connection in open_connections:
                connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                _send(connection, request)
            end = start + seconds
            while (now := time.perf_counter()) < end:
                for key, _ in selector.select(timeout=end - now):
                    connection = key.data
                    if _receive(connection, good):
                        measured.latencies.append(time.perf_counter() - connection.sent_at)
                        _send(connection, request)
            measured.seconds = time.perf_counter() - start
        finally:
            for connection in open_connections:
                connection.socket.close()
    return measured


def _send(connection: _Connection, request: Request) -> None:
    connection.sent_at = time.perf_counter()
    connection.socket.sendall(request())


def _receive(connection: _Connection, good: bytes) -> bool:
    """Take what came; True when an answer is complete."""
    received = connection.socket.recv(65536)
    if not received:
        raise LoadFailed("the service closed a connection")
    buffer = connection.buffer
    buffer += received
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return False
    mark = buffer.lower().find(b"content-length:", 0, head)
    length = int(buffer[mark + 15 : buffer.find(b"\r\n", mark)])
    if len(buffer) < head + 4 + length:
        return False
    if not buffer.startswith(good):
        raise LoadFailed(buffer.decode(errors="replace")[:500])
    buffer.clear()
    return True
