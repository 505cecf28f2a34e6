"""Which look-ups of unknown names may wait for Redis: few at once, few a second, and none of one
name again at once.

A key or an endpoint that was made a moment ago is unknown until this process has read again, and
must work all the same. A flood of names that exist nowhere must neither flood Redis nor hold the
threads that others are answered on: past the bounds a name that is unknown stays so until the next
regular reading.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AT_ONCE = 4
A_SECOND = 20.0
BURST = 5.0
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0
_NAMES = 1000


class Misses:
    """Those of a process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._asking = 0
        self._tokens = BURST
        self._filled_at = clock()
        self._pauses: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name -> until when, and how long it was

    @contextmanager
    def asking(self, name: str) -> Iterator[bool]:
        """Inside: may this look-up wait for Redis?"""
        admitted = self._admit(name)
        try:
            yield admitted
        finally:
            if admitted:
                with self._lock:
                    self._asking -= 1

    def _admit(self, name: str) -> bool:
        with self._lock:
            now = self._clock()
            self._tokens = min(BURST, self._tokens + (now - self._filled_at) * A_SECOND)
            self._filled_at = now
            until, pause = self._pauses.get(name, (now, 0.0))
            if now < until or self._asking >= AT_ONCE or self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            self._asking += 1
            # A name that is asked for again and again is asked for less and less; one that was left
            # alone begins anew.
            pause = (
                FIRST_PAUSE_SECONDS if now - until > LONGEST_PAUSE_SECONDS else max(2.0 * pause, FIRST_PAUSE_SECONDS)
            )
            pause = min(pause, LONGEST_PAUSE_SECONDS)
            self._pauses[name] = (now + pause, pause)
            self._pauses.move_to_end(name)
            while len(self._pauses) > _NAMES:
                self._pauses.popitem(last=False)
            return True
