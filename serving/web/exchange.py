"""One request and its answer: the environ and body that a WSGI application gets, and what it gives,
as it goes over the wire.

`run` is called in a thread of the plane's pool when the body is whole. All else runs in the event
loop's thread.
"""

import io
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import structlog

from .rules import Application, Rule
from .spooling import Spooled

if TYPE_CHECKING:
    from .connection import Connection

log = structlog.get_logger(__name__)

Headers = list[tuple[str, str]]

AT_ONCE_BYTES = 2 * 1024 * 1024
"""An answer of at most so many bytes is handed over whole, and its thread is free; a larger one is
sent as its reader takes it."""
PART_BYTES = 16 * 1024
PART_SECONDS = 0.2
"""Of an answer that is made while it is sent: a part goes when it is this large, or is this old
when another comes."""
STALL_SECONDS = 30.0
"""A reader that takes no part of an answer for so long is gone."""

_NO_BODY = frozenset({"204", "304"})
_OF_THE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "date"})


class ReaderGone(Exception):
    """Nobody reads the answer any more."""


class Exchange:
    """What a connection knows of one request."""

    # Defaults, so that a request that needs nothing of it sets nothing.
    rule: Rule | None = None
    application: Application | None = None
    limit = 0
    until = 0.0
    """When the body must be whole, by the loop's clock."""
    head_is_read = False
    is_read = False
    is_in_line = False
    keep_alive = False
    expects_continue = False
    received = 0
    buffer: bytes | bytearray = b""
    spooled: Spooled | None = None
    pending = 0
    """Parts of the body on their way to disk."""
    refused: bytes | None = None
    """The answer of a request that gets no thread."""
    is_told = False
    gone = False
    is_sent = False
    _status = ""
    _taken: threading.Event | None = None

    def __init__(self, connection: "Connection", environ: dict[str, Any]) -> None:
        self.connection = connection
        self.environ = environ
        self._claims = [True]
        self._headers: Headers = []
        self._early: list[bytes] = []

    def claim(self) -> bool:
        """True for the first who asks: a thread that answers, or the loop that will not wait for
        one any more."""
        try:
            self._claims.pop()  # atomic
        except IndexError:
            return False
        return True

    def take_body(self, part: bytes) -> None:
        """Add a part. Small parts are joined: a body of single bytes takes no more room than
        another."""
        self.received += len(part)
        if not self.buffer:
            self.buffer = part
        else:
            if isinstance(self.buffer, bytes):
                self.buffer = bytearray(self.buffer)
            self.buffer += part

    def run(self) -> None:
        """Have the application answer. In a pool's thread."""
        if not self.claim() or self.gone:
            self._let_go()
            return
        environ = self.environ
        environ["wsgi.input"] = io.BytesIO(self.buffer) if self.spooled is None else self.spooled.rewound()
        environ["wsgi.errors"] = sys.stderr
        if self.received:
            environ["CONTENT_LENGTH"] = str(self.received)
        parts: Iterable[bytes] = ()
        try:
            assert self.application is not None
            parts = self.application(environ, self._start_response)
            self._send(parts)
        except ReaderGone:
            pass
        except BaseException as error:
            log.error("unforeseen error", path=environ.get("PATH_INFO"), exc_info=error)
            self.connection.from_thread(self.connection.failed, self)
        finally:
            if hasattr(parts, "close"):
                parts.close()
            self._let_go()

    def _let_go(self) -> None:
        self.buffer = b""
        if self.spooled is not None:
            self.connection.from_thread(self.connection.close_body, self)

    def _start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info is not None and self.is_sent:
            raise exc_info[1]
        self._status, self._headers = status, headers
        return self._early.append

    def _send(self, parts: Iterable[bytes]) -> None:
        if type(parts) is list and not self._early:
            self._send_whole(parts[0] if len(parts) == 1 else b"".join(parts))
            return
        gathered = bytearray(b"".join(self._early))
        began = time.monotonic()
        rest = iter(parts)
        for part in rest:
            gathered += part
            if len(gathered) < PART_BYTES and time.monotonic() - began < PART_SECONDS:
                continue
            if not self._fits(len(gathered)):
                break
        else:
            self._send_whole(bytes(gathered))
            return
        self._send_in_parts(gathered, rest)

    def _fits(self, size: int) -> bool:
        length = self._told_length()
        return length is not None and size <= length <= self.connection.room_for_answers()

    def _told_length(self) -> int | None:
        for name, value in self._headers:
            if name.lower() == "content-length":
                return int(value)
        return None

    def _has_body(self) -> bool:
        return self.environ["REQUEST_METHOD"] != "HEAD" and self._status[:3] not in _NO_BODY

    def _send_whole(self, body: bytes) -> None:
        head = self._head(length=len(body))
        self.is_sent = True
        data = head + body if self._has_body() else head
        self.connection.from_thread(self.connection.answered, self, data)

    def _send_in_parts(self, first: bytearray, rest: Iterable[bytes]) -> None:
        length = self._told_length()
        chunked = length is None and self.environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        if length is None and not chunked:
            self.keep_alive = False  # its end is the connection's
        head = self._head(length=None, chunked=chunked)
        self.is_sent = True
        if not self._has_body():
            self.connection.from_thread(self.connection.answered, self, head)
            return
        sent = len(first)
        self._send_part(head + _framed(first, chunked))
        gathered, since = bytearray(), time.monotonic()
        for part in rest:
            gathered += part
            if len(gathered) >= PART_BYTES or (gathered and time.monotonic() - since >= PART_SECONDS):
                sent += len(gathered)
                self._send_part(_framed(gathered, chunked))
                gathered, since = bytearray(), time.monotonic()
        sent += len(gathered)
        if length is not None and sent != length:
            raise ValueError(f"an answer of {sent} bytes was announced with {length}")
        last = (_framed(gathered, chunked) if gathered else b"") + (b"0\r\n\r\n" if chunked else b"")
        self.connection.from_thread(self.connection.answered, self, last)

    def _send_part(self, data: bytes) -> None:
        """Returns when the reader has taken what was sent before. Raises ReaderGone."""
        taken = self._taken = self._taken or threading.Event()
        taken.clear()
        self.connection.from_thread(self.connection.send_part, self, data)
        if not taken.wait(STALL_SECONDS) or self.gone:
            self.connection.from_thread(self.connection.failed, self)
            raise ReaderGone

    def part_is_taken(self) -> None:
        if self._taken is not None:
            self._taken.set()

    def lost(self) -> None:
        """The connection is no more: whoever answers need not."""
        self.gone = True
        self.part_is_taken()

    def _head(self, length: int | None, chunked: bool = False) -> bytes:
        return head(
            self._status,
            self._headers,
            length=length if self._status[:3] not in _NO_BODY else None,
            chunked=chunked,
            keep_alive=self.keep_alive and not self.connection.is_last,
            is_old=self.environ["SERVER_PROTOCOL"] != "HTTP/1.1",
            date=self.connection.date,
        )


def head(
    status: str,
    headers: Headers,
    *,
    length: int | None,
    date: str,
    chunked: bool = False,
    keep_alive: bool = True,
    is_old: bool = False,
) -> bytes:
    """The head of an answer. `length` is added where the headers tell none. Raises ValueError for a
    header of two lines."""
    lines = [f"HTTP/1.1 {status}", f"Date: {date}"]
    for name, value in headers:
        lowered = name.lower()
        if lowered == "content-length":
            length = None
        elif lowered in _OF_THE_CONNECTION:
            continue
        lines.append(f"{name}: {value}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    if not keep_alive:
        lines.append("Connection: close")
    elif is_old:
        lines.append("Connection: keep-alive")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise ValueError("a header holds the end of a line")
    return f"{text}\r\n\r\n".encode("latin-1")


def _framed(part: bytearray, chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), bytes(part)) if chunked else bytes(part)
