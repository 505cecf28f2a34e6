"""What a line of the log may be: so long, and so many of a kind a second.

Whoever sends requests decides what some lines hold and how many there are. A kind is a place in the
program and, where the line names them, the endpoint, experiment, model, child or reason that it is
about: a thousand callers with a thousand wrong host names are one kind, two endpoints in trouble
are two. Past the limit lines are counted; the last of them is told when the second is over, with
the number of those that it stands for as `suppressed`. So at most one line more than the limit
comes of a kind in a second.
"""

import logging
import threading
import time
from collections.abc import MutableMapping
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TextIO

A_SECOND = 5
# By the beginning of a logger's name. On the hot path each request could write a line; those that
# are drawn to be told are few already.
OTHERS_A_SECOND = {"serving.request_lines": A_SECOND, "serving.": 1}
KINDS = 1000
"""So many are told apart; what comes beyond them is one kind a logger, until the others have been
quiet."""
TEXT = 500
"""Characters of a value."""
EXCEPTION = 4000
"""Characters of a traceback: its first lines, and the last, which say what went wrong."""
FIELDS = 30
_IDENTITY = ("endpoint", "experiment", "model", "child", "document", "reason")
# What is wrong with a request is no fault of the program: a line says it, and no traceback.
_OF_REQUESTS = ("django.security",)

Kind = tuple[object, ...]


def cap(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: no field longer than it may be, and not too many."""
    capped: dict[str, Any] = {}
    for name, value in list(event.items())[:FIELDS]:
        text = value if isinstance(value, str) else "" if _is_short(value) else repr(value)
        limit = EXCEPTION if name == "exception" else TEXT
        capped[name] = value if len(text) <= limit else _shortened(text, limit)
    return capped


def _is_short(value: Any) -> bool:
    return value is None or isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() < 1000)


def _shortened(text: str, limit: int) -> str:
    first = limit // 4
    return f"{text[:first]} ... {len(text) - limit} characters ... {text[first - limit :]}"


def _limit(logger: str) -> int:
    return next((limit for name, limit in OTHERS_A_SECOND.items() if logger.startswith(name)), A_SECOND)


@dataclass(slots=True)
class _Second:
    """What became of a kind's lines since `began`."""

    began: float
    told: int = 1
    suppressed: int = 0
    last: logging.LogRecord | None = None
    context: Context | None = None  # of `last`: it may be told from another thread


class LimitedStream(logging.StreamHandler[TextIO]):
    """Writes lines to a stream, so many of a kind a second."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._seconds: dict[Kind, _Second] = {}
        self._sweeper: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Called under the handler's lock."""
        if record.name.startswith(_OF_REQUESTS):
            record.exc_info = record.exc_text = None
        kind = self._kind(record)
        now = time.monotonic()
        second = self._seconds.get(kind)
        if second is None or now - second.began >= 1.0:
            if second is not None:
                self._tell(second)
            self._seconds[kind] = _Second(now)
            super().emit(record)
        elif second.told < _limit(record.name):
            second.told += 1
            super().emit(record)
        else:
            second.suppressed += 1
            second.last, second.context = record, copy_context()
            self._sweep_later()

    def _kind(self, record: logging.LogRecord) -> Kind:
        about = record.msg if isinstance(record.msg, dict) else {}
        kind = (record.name, record.lineno, *(str(about[name])[:100] for name in _IDENTITY if name in about))
        if kind in self._seconds or len(self._seconds) < KINDS:
            return kind
        over = time.monotonic() - 1.0
        self._seconds = {kind: second for kind, second in self._seconds.items() if second.began > over or second.last}
        return kind if len(self._seconds) < KINDS else (record.name,)

    def _tell(self, second: _Second) -> None:
        record, context = second.last, second.context
        second.last = second.context = None
        if record is None or context is None:
            return
        if isinstance(record.msg, dict):
            record.msg = record.msg | {"suppressed": second.suppressed - 1}
        else:
            record.suppressed = second.suppressed - 1
        second.suppressed = 0
        context.run(super().emit, record)

    def _sweep_later(self) -> None:
        """A thread tells what was counted, should no more lines of the kind come; it ends when
        nothing waits."""
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(target=self._sweep, name="log-lines", daemon=True)
            self._sweeper.start()

    def _sweep(self) -> None:
        while True:
            time.sleep(1.0)
            self.acquire()
            try:
                self.tell_suppressed(until=time.monotonic() - 1.0)
                if not any(second.last for second in self._seconds.values()):
                    self._sweeper = None
                    return
            finally:
                self.release()

    def tell_suppressed(self, until: float) -> None:
        """Of the seconds that began before `until`."""
        for second in list(self._seconds.values()):
            if second.began <= until:
                self._tell(second)

    def close(self) -> None:
        self.acquire()
        try:
            self.tell_suppressed(until=time.monotonic())
        finally:
            self.release()
        super().close()
