"""How long a model's calls take, and so whether a request runs one itself or must be able to leave
it.

A call in a thread of its own costs about 50 microseconds more, which is as long as a small model
takes. So a model whose calls were measured, at its registration or here, to be short against any
deadline is run by the request itself. One call that takes long against what was expected, as some
do for rows of a certain kind, has others like it run where they can be left for a while.
"""

import time
from collections.abc import Callable

INLINE_SECONDS = 0.005
"""A call that is expected to take longer runs where it can be left."""
LATE_SECONDS = 0.05
"""A call that took longer than this, and than was expected, says what rows take until
CAREFUL_SECONDS later."""
CAREFUL_SECONDS = 60.0


class Pace:
    """One model's, in one process. Made for many threads: each field is set in one step, and the
    latest word counts.

    `call_seconds`: what a call takes whatever it holds; `row_seconds`: what each row adds. None
    where nobody has measured yet.
    """

    def __init__(
        self,
        call_seconds: float | None = None,
        row_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cost = None if call_seconds is None else (call_seconds, row_seconds or 0.0)
        self._clock = clock
        # What a row took in a call that came late, and until when that counts.
        self._late: tuple[float, float] | None = None

    def expected_seconds(self, rows: int) -> float | None:
        """What a call with so many rows should take; None where nothing was measured."""
        cost, late = self._cost, self._late
        if cost is None:
            return None
        expected = cost[0] + rows * cost[1]
        if late is not None and self._clock() < late[1]:
            return max(expected, rows * late[0])
        return expected

    def is_short(self, rows: int) -> bool:
        """May a request run a call with so many rows by itself?"""
        expected = self.expected_seconds(rows)
        return expected is not None and expected <= INLINE_SECONDS

    def took(self, rows: int, seconds: float) -> None:
        """A call with so many rows took so long, or was left after so long."""
        if rows == 0:
            return
        if self._cost is None:
            self._cost = (0.0, seconds / rows)
        elif seconds > LATE_SECONDS and seconds > (self.expected_seconds(rows) or 0.0):
            self._late = (seconds / rows, self._clock() + CAREFUL_SECONDS)
