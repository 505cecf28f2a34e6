"""What the connections of a process share: the rules, the bounds of what all of them together may
hold, and the clock."""

import asyncio
import resource
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.problems import Problem
from serving.request_lines import RequestLines

from .answer_heads import AnswerHeads
from .refusals import Tell, tell_problem
from .rules import Find, Fixed
from .spooling import Spooler

if TYPE_CHECKING:
    from .connection import Connection

MOST_CONNECTIONS = 4096
"""Past it those that have been idle for longest are closed, and a new one is refused where none
is."""
FILES_BESIDE = 512
"""Open files that are no connections of clients: bodies on disk, the engines' connections,
models."""
FEWEST_CONNECTIONS = 64
MOST_UNFINISHED = 256
"""Requests that are not whole yet. Past it the oldest is given up: an honest sender is done in
moments."""
UNSENT_BYTES = 64 * 1024 * 1024
"""Of answers that are made and wait for slow readers; past it an answer is sent in parts, from its
thread."""
SWEEP_SECONDS = 0.5

Answer = tuple[str, list[tuple[str, str]], bytes]
"""Status line, headers and body."""

_REASONS = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    417: "Expectation Failed",
    500: "Internal Server Error",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class Front:
    """`find` gives the rule of a path, `folder` is where large bodies go, `disk_limit` how many
    bytes all of them may take there.

    `share` of the requests that are refused here get a line in the log. `tell` says a refusal in
    the words of the address's protocol, and `heads` has the headers of every answer. `at_end` is
    called after the last request.
    """

    def __init__(
        self,
        find: Find,
        *,
        folder: Path,
        disk_limit: int,
        share: float,
        tell: Tell = tell_problem,
        heads: AnswerHeads | None = None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.find = find
        self._tell = tell
        self._heads = heads or AnswerHeads(https=False, origins=tuple)
        self.spooler = Spooler(folder, disk_limit)
        self.connections: set[Connection] = set()
        self.unfinished: dict[Connection, None] = {}
        self.unsent = 0
        open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._room = MOST_CONNECTIONS
        if open_files != resource.RLIM_INFINITY:
            self._room = max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, open_files - FILES_BESIDE))
        self.now = 0.0
        """The loop's clock at the last sweep: near enough for deadlines of many seconds."""
        self.date = formatdate(time.time(), usegmt=True)
        self._share = share
        self._at_end = at_end
        self._sweeping: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        """ASGI's lifespan and nothing else: the server's word that the process begins, and that it
        ends.

        A signal ends it right after: what Python does at its exit is not done.
        """
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        self._at_end()
        await send({"type": "lifespan.shutdown.complete"})

    def joined(self, connection: "Connection", loop: asyncio.AbstractEventLoop) -> bool:
        """False where there are too many already."""
        if self._sweeping is None:
            self._sweep(loop)
        if len(self.connections) >= self._room and not self._make_room():
            return False
        self.connections.add(connection)
        return True

    def _make_room(self) -> bool:
        """Close some idle connections, so that who opens many and asks nothing keeps out nobody."""
        idle = sorted((other for other in self.connections if other.is_idle), key=lambda other: other.deadline)
        for other in idle[: 1 + len(idle) // 16]:
            other.close()
        return bool(idle)

    def left(self, connection: "Connection") -> None:
        self.connections.discard(connection)
        self.unfinished.pop(connection, None)

    def is_unfinished(self, connection: "Connection") -> None:
        """It has begun to send a request, and has more to send."""
        self.unfinished[connection] = None
        if len(self.unfinished) > MOST_UNFINISHED:
            oldest = next(iter(self.unfinished))
            del self.unfinished[oldest]
            oldest.give_up()

    def answer(self, environ: dict[str, Any], problem: Problem) -> Answer:
        """What a request that gets no thread is told; it is in the log as any other."""
        status, content_type, body, headers = self._tell(environ, problem)
        return self._told(environ, f"{status} {_REASONS[status]}", content_type, body, list(headers.items()))

    def fixed(self, environ: dict[str, Any], answer: Fixed) -> Answer:
        return self._told(environ, "200 OK", answer.content_type, answer.body, [])

    def _told(
        self, environ: dict[str, Any], status: str, content_type: str, body: bytes, more: list[tuple[str, str]]
    ) -> Answer:
        told: list[Any] = []
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), *more, *self._heads.of(environ)]

        def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
            start_response(status, headers)
            return [body]

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            told.extend((status, headers))

        parts = RequestLines(application, self._share)(environ, start)
        return told[0], told[1], b"".join(parts)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep, loop)
        self.date = formatdate(time.time(), usegmt=True)
        self.now = now = loop.time()
        for connection in [other for other in self.connections if other.deadline <= now]:
            connection.overdue(now)
