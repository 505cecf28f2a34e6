"""Runs a call that may hang under a deadline, and sheds load when too many such calls already hang.

A thread that runs user code can't be ended. It is left behind, and counts against a limit until it comes back: past the limit new
calls fail at once, so a model that hangs costs a bounded number of threads and no request waits for it twice.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

LIMIT = 16


class DeadlineExceeded(Exception):
    """The call did not come back in time."""


class Overloaded(Exception):
    """Too many earlier calls have not come back."""


class BoundedCaller:
    """One model's calls: at most `limit` at once, each in a daemon thread of its own.

    A thread a call costs about 50 microseconds; a pool was rejected because its threads are joined at exit, and one hung
    model would keep the process from stopping.
    """

    def __init__(self, name: str, limit: int = LIMIT) -> None:
        self._name = name
        self._free = threading.BoundedSemaphore(limit)

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """What `function` returns or raises, or DeadlineExceeded, or Overloaded."""
        if not self._free.acquire(blocking=False):
            raise Overloaded(self._name)
        future: Future[T] = Future()

        def run() -> None:
            try:
                result = function()
            except BaseException as error:  # handed to the caller, whatever it is
                future.set_exception(error)
            else:
                future.set_result(result)
            finally:
                self._free.release()

        threading.Thread(target=run, name=f"predict-{self._name}", daemon=True).start()
        try:
            return future.result(timeout=max(seconds, 0.0))
        except TimeoutError as error:
            if future.done():  # the call itself raised TimeoutError
                raise
            raise DeadlineExceeded(self._name) from error
