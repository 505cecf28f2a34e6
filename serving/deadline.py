"""Runs a call that may hang under a deadline, and sheds load when too many such calls already hang.

A thread that runs a model can't be ended. It is left behind, and counts against a limit until it
comes back: past the limit new calls fail at once, so a model that hangs costs a bounded number of
threads and no request waits for it twice.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

AT_ONCE = 16
LEFT_BEHIND = 5
"""Calls that were left and are not back: each may keep a core busy that other endpoints need."""


class DeadlineExceeded(Exception):
    """The call did not come back in time."""


class WaitedInVain(DeadlineExceeded):
    """A call that was made for another request too did not come back in time. None was made for
    this one alone, so nothing is counted against the model."""


class Overloaded(Exception):
    """Too many earlier calls have not come back."""


class _Until(threading.local):
    """Until when the caller of this thread's call waits (time.perf_counter); None: for ever."""

    at: float | None = None


_until = _Until()


def seconds_left(most: float) -> float:
    """How long the caller of this thread's call waits still, `most` where no BoundedCaller made it.
    A call that ends by then is never left behind.
    """
    return most if _until.at is None else min(most, _until.at - time.perf_counter())


class _Call(Generic[T]):
    """One call: what it gave, and whether its caller has left."""

    def __init__(self) -> None:
        self.returned = threading.Event()
        self.left = False
        self.result: T | None = None
        self.error: BaseException | None = None


class BoundedCaller:
    """One model's calls: at most `at_once`, each in a daemon thread of its own, and none while
    `left_behind` hang.

    A thread a call costs about 50 microseconds; a pool was rejected because its threads are joined
    at exit, and one hung model would keep the process from stopping.
    """

    def __init__(self, name: str, at_once: int = AT_ONCE, left_behind: int = LEFT_BEHIND) -> None:
        self._name = name
        self._at_once = at_once
        self._left_behind = left_behind
        self._lock = threading.Lock()
        self._running = 0
        self._left = 0

    @property
    def left(self) -> int:
        """How many calls were left and are not back."""
        return self._left

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """What `function` returns or raises, or DeadlineExceeded, or Overloaded."""
        with self._lock:
            if self._running >= self._at_once or self._left >= self._left_behind:
                raise Overloaded(self._name)
            self._running += 1
        call: _Call[T] = _Call()
        until = time.perf_counter() + seconds
        thread = threading.Thread(
            target=self._run, args=(function, call, until), name=f"predict-{self._name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads
            with self._lock:
                self._running -= 1
            raise Overloaded(self._name) from error
        call.returned.wait(max(seconds, 0.0))
        with self._lock:
            if not call.returned.is_set():
                call.left = True
                self._left += 1
                raise DeadlineExceeded(self._name)
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]  # there, for it returned without an error

    def _run(self, function: Callable[[], T], call: _Call[T], until: float) -> None:
        _until.at = until  # of this thread, which makes no other call
        try:
            call.result = function()
        except BaseException as error:  # handed to the caller, whatever it is
            call.error = error
        with self._lock:
            call.returned.set()
            self._running -= 1
            self._left -= call.left
