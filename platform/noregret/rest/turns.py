"""Calls of the control plane compute by turns, one at a time in a process: predictions contend for
the interpreter with one of them, and not with as many as there are threads.

Python runs one thread at a time anyway, so that no call comes later for it. A turn is given up for
each statement, and PostgreSQL works for several calls at once. Who keeps the turn for long computes
in a library, or waits for something else than the database: nobody waits for that.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse

LONG_SECONDS = 0.05
"""For a turn that is kept longer than this nobody waits."""


class Turns:
    """Made for many threads."""

    def __init__(self, long_seconds: float = LONG_SECONDS) -> None:
        self._long_seconds = long_seconds
        self._turn = threading.Lock()
        self._since = 0.0
        self._mine = _Mine()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A call, from its beginning to its end."""
        self._mine.is_calling = True
        self._take()
        try:
            yield
        finally:
            self._give()
            self._mine.is_calling = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What a call waits for: a statement, or another thread. Outside a call it is nothing."""
        if not self._mine.is_calling:
            yield
            return
        self._give()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        is_mine = self._turn.acquire(blocking=False)
        while not is_mine and (left := self._since + self._long_seconds - time.monotonic()) > 0.0:
            is_mine = self._turn.acquire(timeout=left)
        if is_mine:
            self._since = time.monotonic()
        self._mine.has_turn = is_mine

    def _give(self) -> None:
        if self._mine.has_turn:
            self._mine.has_turn = False
            self._turn.release()


class _Mine(threading.local):
    """A thread's own."""

    is_calling = False
    has_turn = False


TURNS = Turns()


def take_turns(respond: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware."""

    def middleware(request: HttpRequest) -> HttpResponse:
        with TURNS.computing(), connection.execute_wrapper(outside_turn):
            return respond(request)

    return middleware


def outside_turn(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    with TURNS.waiting():
        return execute(sql, params, many, context)
