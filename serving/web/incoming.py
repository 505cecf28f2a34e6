"""The requests of one connection, as its parser tells them: each is read whole, within its route's
limit and deadline.

The parser is httptools' (llhttp). What is decided here: whose body is read, and how far. What
becomes of a request, and of the connection, is the connection's matter.
"""

from typing import TYPE_CHECKING, Any

import httptools

from serving import problems
from serving.problems import Problem

from .exchange import Exchange
from .front import Front
from .request_heads import add_address, add_header, framing

if TYPE_CHECKING:
    from .connection import Connection

HEAD_BYTES = 64 * 1024
BLOCK_BYTES = 64 * 1024
"""What is held in memory of a body; more goes to disk."""


class Incoming:
    """`base` is what the environ of every request of the connection begins with, `reading` the
    request that is not whole yet.

    `rest_bytes` is how much more is read of one that is refused; `idle_bytes` is what came since
    anything of a body did.
    """

    def __init__(self, connection: "Connection", front: Front) -> None:
        self._connection = connection
        self._front = front
        self._parser = httptools.HttpRequestParser(self)
        self.base: dict[str, Any] = {}
        self.reading: Exchange | None = None
        self.rest_bytes = 0
        self.idle_bytes = 0
        self._target = b""
        self._framing = b""
        """The header that tells of a body which this parser will not read."""
        self._head_bytes = 0

    def feed(self, data: bytes) -> None:
        """Raises httptools.HttpParserError for what is no request."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])

    def close(self) -> None:
        """The parser holds this, and this the connection: none is left to the garbage collector."""
        self.reading = None
        del self._parser, self._connection

    def _go_on(self, rest: bytes) -> None:
        """Another protocol was offered, which nobody must speak: what follows is HTTP as before.

        The parser takes all after the head for that protocol, a body too. So a new one goes on, and
        is told of the body.
        """
        while True:
            if self._parser.get_method() == b"CONNECT":
                self._connection.stop_reading()
                return
            self._parser = httptools.HttpRequestParser(self)
            if self._framing:
                self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % self._framing)
                self._framing = b""
            try:
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]

    # What the parser says.

    def on_message_begin(self) -> None:
        if self._framing or self._connection.is_deaf:
            return
        self.reading = Exchange(self._connection, self.base.copy())
        self._target = b""
        self._head_bytes = self.idle_bytes = 0

    def on_url(self, part: bytes) -> None:
        self._head_bytes += len(part)
        if self._head_bytes <= HEAD_BYTES:
            self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        reading = self.reading
        if self._head_bytes <= HEAD_BYTES and reading is not None and not reading.head_is_read:  # else a trailer
            add_header(reading.environ, name, value)

    def on_headers_complete(self) -> None:
        reading = self.reading
        if reading is None or self._connection.is_ending or self._framing:
            return
        reading.head_is_read = True
        environ = reading.environ
        if self._parser.should_upgrade():
            self._framing = framing(environ)
        method = environ["REQUEST_METHOD"] = self._parser.get_method().decode("latin-1")
        version = self._parser.get_http_version()
        environ["SERVER_PROTOCOL"] = f"HTTP/{version}"
        reading.keep_alive = self._parser.should_keep_alive()
        if self._head_bytes > HEAD_BYTES:
            self._connection.break_off(head_too_large())
            return
        if not add_address(environ, self._target):
            environ["PATH_INFO"] = ""
            self._connection.refuse(reading, bad_request("its target is no path"))
            return
        rule = reading.rule = self._front.find(environ["PATH_INFO"])
        if rule is None:
            self._connection.refuse(reading, problems.not_found(f"there is nothing at {environ['PATH_INFO'][:200]}"))
            return
        if method not in rule.methods:
            self._connection.refuse(reading, problems.method_not_allowed(rule.methods))
            return
        limit, seconds = rule.of_body(method, environ.get("CONTENT_TYPE", ""))
        length = environ.get("CONTENT_LENGTH")
        reading.limit = limit
        if length is not None and int(length) > limit:
            self._connection.refuse(reading, problems.too_large(limit))
            return
        # Bodies come whole to an application: none is in chunks.
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        expected = environ.pop("HTTP_EXPECT", None)
        if expected is not None:
            if expected.lower() != "100-continue":
                self._connection.refuse(
                    reading, Problem(417, "expectation-failed", "Not expected", "only 100-continue is known")
                )
                return
            reading.expects_continue = version == "1.1"
        reading.until = self._front.now + seconds

    def on_body(self, part: bytes) -> None:
        reading = self.reading
        if reading is None or self._connection.is_ending:
            return
        if reading.refused is not None:
            self.rest_bytes -= len(part)
            reading.received += len(part)
            if self.rest_bytes < 0 and reading is self._connection.running:
                self._connection.end()
            return
        reading.take_body(part)
        if reading.received > reading.limit:
            self._connection.refuse(reading, problems.too_large(reading.limit))
        elif len(reading.buffer) >= BLOCK_BYTES:
            self._connection.keep_on_disk(reading)

    def on_message_complete(self) -> None:
        if self._framing:  # its body is still to come
            return
        reading, self.reading = self.reading, None
        if reading is None or self._connection.is_ending:
            return
        reading.is_read = True
        if reading.refused is not None:
            if reading.is_told:
                self._connection.next_in_line()
            return
        if reading.spooled is not None and reading.buffer:
            self._connection.keep_on_disk(reading)
        if reading.refused is None:
            self._connection.line_up(reading)


def bad_request(why: str) -> Problem:
    return Problem(400, "bad-request", "The request can't be understood", why)


def head_too_large() -> Problem:
    return Problem(431, "head-too-large", "The head is too large", f"at most {HEAD_BYTES} bytes are taken")
