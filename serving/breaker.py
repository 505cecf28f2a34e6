"""Takes an arm that keeps failing out of the requests' way: closed, open, half-open, by model and
process.

Closed, every call goes through. After FAILURES in a row it opens: calls are refused at once, so
that requests do not wait out the deadline of a model that hangs. After a pause one call is let
through (half-open): if it succeeds the breaker closes, else it opens again, for twice as long.
Decisions that meet an open breaker are answered by the champion and never learned from.
"""

import threading
import time
from collections.abc import Callable

FAILURES = 5
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0


class CircuitOpen(Exception):
    """The model failed too often lately to be asked now."""


class Breaker:
    """One model's. Made for many threads; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._closed = True
        self._is_trying = False  # is the call that was let through under way?
        self._retry_at = 0.0

    @property
    def state(self) -> str:
        """`closed`, `open`, or `half-open` where the next call is let through, or one is under
        way."""
        if self._closed:
            return "closed"
        return "open" if self._clock() < self._retry_at else "half-open"

    def admit(self) -> None:
        """Raises CircuitOpen where the call must not be made; every call that is made ends in
        `succeeded` or `failed`."""
        if self._closed:
            return
        with self._lock:
            now = self._clock()
            if self._closed:
                return
            if now < self._retry_at:
                raise CircuitOpen
            # One caller tries; the others wait until it is back, or has had its pause.
            self._retry_at = now + self._pause
            self._is_trying = True

    def succeeded(self) -> None:
        if self._failures or not self._closed:
            with self._lock:
                self._failures, self._closed, self._pause = 0, True, FIRST_PAUSE_SECONDS
                self._is_trying = False

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            if not self._closed:
                if not self._is_trying:
                    return  # a call from before it opened: nothing was tried since
                self._is_trying = False
                self._pause = min(2.0 * self._pause, LONGEST_PAUSE_SECONDS)
                self._retry_at = self._clock() + self._pause
            elif self._failures >= FAILURES:
                self._closed = False
                self._retry_at = self._clock() + self._pause
