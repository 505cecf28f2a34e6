"""One connection of a client, as uvicorn's server accepts it: requests are whole before a thread is
taken for one.

What is decided here: for how long is read, in which order answers go out, and when the connection
ends. A request that is refused is read on within bounds, so that its sender reads the answer.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import httptools

from serving import problems
from serving.problems import Problem

from .exchange import AT_ONCE_BYTES, Exchange, Headers, head
from .front import UNSENT_BYTES, Front
from .incoming import HEAD_BYTES, Incoming, bad_request, head_too_large
from .rules import Fixed, Plane
from .spooling import DiskFull

HEAD_SECONDS = 10.0
SILENT_SECONDS = 10.0
"""A body of which nothing comes for so long is given up, whatever its deadline."""
IDLE_SECONDS = 75.0
"""Between requests: longer than a proxy in front keeps a connection that it does not use."""
QUEUE_SECONDS = 5.0
"""A request that no thread takes for so long is refused."""
REST_BYTES = 64 * 1024 * 1024
REST_SECONDS = 10.0
"""How far a request that is refused is read on."""
UNREAD_SECONDS = 60.0
"""A reader that takes nothing of its answer for so long is gone."""
ENDING_SECONDS = 2.0
MOST_IN_LINE = 16
"""Requests that a client may send ahead of its answers."""
NEVER = float("inf")

_DISK, _LINE, _UNSENT = 1, 2, 4


class Connection(asyncio.Protocol):
    """uvicorn makes one for each connection; `config.loaded_app` is the process's Front."""

    def __init__(
        self, config: Any, server_state: Any, app_state: Any = None, _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._front: Front = config.loaded_app
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._incoming = Incoming(self, self._front)
        self.running: Exchange | None = None
        self._in_line: deque[Exchange] = deque()
        self._paused = 0
        self._is_writable = True
        self._unsent = 0
        self._is_unfinished = False
        self.is_deaf = False
        """What was read is answered, and nothing more is read as a request."""
        self.is_ending = False
        self._is_lost = False
        self.is_last = False
        """No request is read after the one that is answered."""
        self.deadline = NEVER

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._front.joined(self, self._loop):
            self._transport.abort()
            return
        self._server.connections.add(self)
        here, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        is_network = isinstance(here, tuple) and isinstance(peer, tuple)
        self._incoming.base = {
            "SCRIPT_NAME": "",
            "SERVER_NAME": str(here[0]) if is_network else "localhost",
            "SERVER_PORT": str(here[1]) if is_network else "0",
            "REMOTE_ADDR": str(peer[0]) if is_network else "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
        self.deadline = self._loop.time() + HEAD_SECONDS

    def data_received(self, data: bytes) -> None:
        if self.is_ending or self.is_deaf:
            return
        incoming = self._incoming
        before = incoming.reading
        received = -1 if before is None else before.received
        try:
            incoming.feed(data)
        except httptools.HttpParserCallbackError:
            self._transport.abort()  # a fault of ours; nobody knows what was read
            raise
        except httptools.HttpParserError:
            self.break_off(bad_request("it is no HTTP/1.1 request"))
            return
        reading = incoming.reading
        if reading is None or self.is_ending:
            if self._is_unfinished:
                self._is_unfinished = False
                self._front.unfinished.pop(self, None)
            return
        now = self._loop.time()
        # Heads, chunks' sizes and trailers are no body, and their length is bounded like a head's.
        # Of data that another request ended in, nobody knows how much is this one's.
        is_going_on = reading is before and not (reading.received != received and reading.head_is_read)
        incoming.idle_bytes = incoming.idle_bytes + len(data) if is_going_on else 0
        if incoming.idle_bytes > HEAD_BYTES:
            self.break_off(head_too_large())
            return
        if not self._is_unfinished:
            self._is_unfinished = True
            self._front.is_unfinished(self)
            if not reading.head_is_read:
                self.deadline = now + HEAD_SECONDS
        if reading.head_is_read and reading.refused is None:
            self.deadline = min(reading.until, now + SILENT_SECONDS)
            if reading.expects_continue and not reading.received and self.running is None:
                reading.expects_continue = False
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def eof_received(self) -> bool:
        if self._incoming.reading is not None and not self.is_ending and self.running is None:
            self.refuse(self._incoming.reading, bad_request("its body ended before its length"))
            self.is_ending = True
            self._transport.close()
            return True
        return False  # nobody is there to read an answer

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self._front.left(self)
        self._front.unsent -= self._unsent
        self._unsent = 0
        self._server.connections.discard(self)
        for exchange in (self._incoming.reading, self.running, *self._in_line):
            if exchange is not None:
                exchange.lost()
                if exchange.claim():  # no thread has it, or will have it
                    self.close_body(exchange)
        self.running = None
        self._in_line.clear()
        self.deadline = NEVER
        self._incoming.close()

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self._front.unsent -= self._unsent
        self._unsent = 0
        if self.running is not None:
            self.running.part_is_taken()
        self._resume(_UNSENT)

    # What the server and the clock say.

    def shutdown(self) -> None:
        """The process ends: what is answered is answered, and nothing else begins."""
        self.is_last = True
        if self.running is None or self.running.is_told:
            self._transport.close()

    @property
    def is_idle(self) -> bool:
        """Nothing is asked, and nothing is to be told."""
        return self._incoming.reading is None and self.running is None and self._is_writable and not self.is_ending

    def close(self) -> None:
        """Of an idle one: another needs its place."""
        self.is_ending = True
        self._transport.close()

    def give_up(self) -> None:
        """Another needs the room of what is not whole here."""
        self._is_unfinished = False
        self.overdue(self._loop.time())

    def overdue(self, now: float) -> None:
        """The deadline has passed."""
        if self.is_ending:
            self._transport.abort()
        elif not self._is_writable:
            left = self._transport.get_write_buffer_size()
            if left < self._unsent:
                self._front.unsent -= self._unsent - left
                self._unsent = left
                self.deadline = now + UNREAD_SECONDS
            else:
                self._transport.abort()
        elif self.running is not None and self.running.refused is None:
            # It waits for a thread.
            self.deadline = NEVER
            if self.running.claim():
                self.running.refused = self._answer(self.running, problems.busy())
                self._tell(self.running)
        elif self._incoming.reading is None:
            self._transport.close()
        elif self._incoming.reading.refused is None:
            self.refuse(self._incoming.reading, problems.slow_body(SILENT_SECONDS))
            self.end()
        else:
            self.end()

    # From a request to its answer.

    def line_up(self, exchange: Exchange) -> None:
        """Its place among the answers is that of its request, whatever is ready first."""
        exchange.is_in_line = True
        if self.running is None:
            self._start(exchange)
            return
        self._in_line.append(exchange)
        self._pause(_LINE)
        if len(self._in_line) >= MOST_IN_LINE:
            self.stop_reading()

    def _start(self, exchange: Exchange) -> None:
        self.running = exchange
        if exchange.refused is None:
            if exchange.pending:  # its body is on the way to disk
                return
            assert exchange.rule is not None
            answers = exchange.rule.answers
            if isinstance(answers, Plane):
                exchange.application = answers.application
                self.deadline = self._front.now + QUEUE_SECONDS
                if answers.pool.submit(exchange.run):
                    return
                exchange.refused = self._answer(exchange, problems.busy())
            else:
                exchange.refused = self._fixed(exchange, answers)
            exchange.claim()
        self._tell(exchange)

    def refuse(self, exchange: Exchange, problem: Problem) -> None:
        """No thread for this one. It keeps its place among the answers."""
        exchange.claim()
        self.close_body(exchange)
        exchange.buffer = b""
        exchange.refused = self._answer(exchange, problem)
        self._incoming.rest_bytes = max(REST_BYTES, 4 * exchange.limit)
        if not exchange.is_in_line:
            self.line_up(exchange)
        elif exchange is self.running:
            self._tell(exchange)

    def _answer(self, exchange: Exchange, problem: Problem) -> bytes:
        if problem.status == 408:
            exchange.keep_alive = False
        return self._whole(exchange, *self._front.answer(exchange.environ, problem))

    def _fixed(self, exchange: Exchange, answer: Fixed) -> bytes:
        return self._whole(exchange, *self._front.fixed(exchange.environ, answer))

    def _whole(self, exchange: Exchange, status: str, headers: Headers, body: bytes) -> bytes:
        environ = exchange.environ
        keep_alive = exchange.keep_alive and not self.is_last
        is_old = environ.get("SERVER_PROTOCOL", "HTTP/1.1") != "HTTP/1.1"
        told = head(status, headers, length=None, keep_alive=keep_alive, is_old=is_old, date=self._front.date)
        return told if environ.get("REQUEST_METHOD") == "HEAD" else told + body

    def _tell(self, exchange: Exchange) -> None:
        assert exchange.refused is not None
        exchange.is_told = True
        self.close_body(exchange)
        self._write(exchange.refused)
        if exchange.is_read:
            self.next_in_line()
        elif not exchange.keep_alive or self.is_last:
            self.end()
        else:
            self.deadline = self._loop.time() + REST_SECONDS

    def next_in_line(self) -> None:
        """An answer is out: the next request's turn, or the end."""
        last, self.running = self.running, None
        if self._is_lost or self.is_ending:
            return
        if self.is_last or (last is not None and not last.keep_alive):
            if self._incoming.reading is None and not self.is_deaf:
                self.is_ending = True
                self._transport.close()
                self.deadline = self._loop.time() + (ENDING_SECONDS if self._is_writable else UNREAD_SECONDS)
            else:
                self.end()
            return
        if self._in_line:
            self._start(self._in_line.popleft())
            if not self._in_line:
                self._resume(_LINE)
        elif not self._is_writable:
            self.deadline = self._loop.time() + UNREAD_SECONDS
        else:
            self.deadline = self._front.now + (IDLE_SECONDS if self._incoming.reading is None else SILENT_SECONDS)

    def _write(self, data: bytes) -> None:
        if self._is_lost or self.is_ending:
            return
        self._transport.write(data)
        if not self._is_writable:
            self._unsent += len(data)
            self._front.unsent += len(data)
            self._pause(_UNSENT)

    def end(self) -> None:
        """Nothing more is read as a request. What still comes is dropped for a moment, so that the
        answer is not lost with it."""
        if self.is_ending or self._is_lost:
            return
        self.is_ending = True
        self._front.unfinished.pop(self, None)
        self._resume(_DISK | _LINE | _UNSENT)
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()
        self.deadline = self._loop.time() + (ENDING_SECONDS if self._is_writable else UNREAD_SECONDS)

    def stop_reading(self) -> None:
        """What was read is answered, and nothing more is."""
        self.is_deaf = True
        self._incoming.reading = None
        last = self._in_line[-1] if self._in_line else self.running
        if last is None or last.is_told:
            self.end()
        else:
            last.keep_alive = False

    def break_off(self, problem: Problem) -> None:
        """What comes can't be told apart any more."""
        reading = self._incoming.reading or Exchange(self, {})
        if reading.refused is None:
            reading.keep_alive = False
            self.refuse(reading, problem)
        self.stop_reading()

    # Bodies on disk.

    def keep_on_disk(self, exchange: Exchange) -> None:
        spooler = self._front.spooler
        exchange.spooled = exchange.spooled or spooler.open()
        part, exchange.buffer = bytes(exchange.buffer), b""
        try:
            spooler.write(exchange.spooled, part, partial(self.from_thread, self._is_kept, exchange))
        except DiskFull:
            self.refuse(exchange, problems.unavailable("too many large bodies are on their way", retry_after=10))
            return
        exchange.pending += 1
        self._pause(_DISK)

    def _is_kept(self, exchange: Exchange, error: OSError | None) -> None:
        exchange.pending -= 1
        if self._is_lost:
            return
        if error is not None and exchange.refused is None:
            self.refuse(exchange, problems.unavailable("the body could not be kept on disk", retry_after=10))
        if exchange.pending == 0:
            self._resume(_DISK)
            if exchange is self.running and exchange.refused is None:
                self._start(exchange)

    def close_body(self, exchange: Exchange) -> None:
        if exchange.spooled is not None:
            self._front.spooler.close(exchange.spooled)
            exchange.spooled = None

    # What threads that answer ask for.

    @property
    def date(self) -> str:
        return self._front.date

    def room_for_answers(self) -> int:
        """Bytes of an answer that may be handed over whole."""
        return min(AT_ONCE_BYTES, UNSENT_BYTES - self._front.unsent)

    def from_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has ended, and its connections with it
            if not self._loop.is_closed():
                raise

    def answered(self, exchange: Exchange, data: bytes) -> None:
        """The answer, or its last part."""
        if exchange is self.running:
            self._write(data)
            self.next_in_line()

    def send_part(self, exchange: Exchange, data: bytes) -> None:
        if exchange is not self.running:
            exchange.part_is_taken()
            return
        self.deadline = NEVER
        self._transport.write(data)
        if self._is_writable:
            exchange.part_is_taken()

    def failed(self, exchange: Exchange) -> None:
        """It can't be answered, or not to its end."""
        if exchange is not self.running:
            return
        if exchange.is_sent:
            self._transport.abort()
        else:
            exchange.keep_alive = False
            exchange.refused = self._answer(exchange, problems.internal())
            self._tell(exchange)

    # The flow of what is read.

    def _pause(self, why: int) -> None:
        if not self._paused and not self._is_lost:
            self._transport.pause_reading()
        self._paused |= why

    def _resume(self, why: int) -> None:
        if self._paused and not self._paused & ~why and not self._is_lost:
            self._transport.resume_reading()
        self._paused &= ~why
