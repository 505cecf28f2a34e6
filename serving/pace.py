"""How long a model's calls take, and so whether a request runs one itself or must be able to leave it.

A call in a thread of its own costs about 50 microseconds more, which is as long as a small model takes. So a model whose calls were
measured, at its registration or here, to be short against any deadline is run by the request itself. One call that takes far longer
than was expected, as some do for rows of a certain kind, has the model's calls run where they can be left for a while.
"""

import time
from collections.abc import Callable

INLINE_SECONDS = 0.005
"""A call that is expected to take longer runs where it can be left."""
LATE_SECONDS = 0.05
"""A call that took longer than this was no short one, whatever was expected."""
CAREFUL_SECONDS = 60.0


class Pace:
    """One model's, in one process. Made for many threads: each field is set in one step, and the latest word counts.

    `call_seconds`: what a call takes whatever it holds; `row_seconds`: what each row adds. None where nobody has measured yet.
    """

    def __init__(
        self,
        call_seconds: float | None = None,
        row_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cost = None if call_seconds is None else (call_seconds, row_seconds or 0.0)
        self._clock = clock
        self._careful_until = float("-inf")

    def expected_seconds(self, rows: int) -> float | None:
        """What a call with so many rows should take; None where nothing was measured."""
        cost = self._cost
        return None if cost is None else cost[0] + rows * cost[1]

    def is_short(self, rows: int) -> bool:
        """May a request run a call with so many rows by itself?"""
        cost = self._cost
        return (
            cost is not None
            and cost[0] + rows * cost[1] <= INLINE_SECONDS
            and (self._careful_until < 0.0 or self._careful_until < self._clock())
        )

    def took(self, rows: int, seconds: float) -> None:
        """A call with so many rows took so long, or was left after so long."""
        if self._cost is None and rows > 0:
            self._cost = (0.0, seconds / rows)
        if seconds > LATE_SECONDS:
            self._careful_until = self._clock() + CAREFUL_SECONDS
