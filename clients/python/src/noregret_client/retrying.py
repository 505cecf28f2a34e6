"""When a call is tried again, and after how long. Pure rules: nothing here sends or sleeps.

A call is tried again only where a second try can do no harm. What never reached the platform, and
what it refused as unavailable, always is. A request whose answer was lost may have been carried
out: it is sent again only if the platform takes repetitions as one (`Repeats.SAFE`). Feedback,
registrations and reads are such; predict and decide are not, for each try is a decision of the
ledger.
"""

import enum
import random
import time
from dataclasses import dataclass, field

from .errors import DeadlineExceeded, NoregretError, NotFound, PlatformUnavailable, Unreachable

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
YOUNG_SECONDS = 3.0
"""The platform's processes hear of a new endpoint within a quarter of a second. For so long one
that this client made is asked for again where it is not found."""
_YOUNG_PAUSE_SECONDS = 0.05
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_NOTHING_DONE = frozenset({408, 429, 503})


class Repeats(enum.Enum):
    """What sending a request twice does."""

    SAFE = "safe"
    HARMFUL = "harmful"


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to `tries` requests a call. Pauses double from `first_pause`, each drawn at random between
    half of it and all."""

    tries: int = 3
    first_pause: float = FIRST_PAUSE_SECONDS
    longest_pause: float = LONGEST_PAUSE_SECONDS

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError("tries: at least 1 was expected")

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        whole = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30))
        return whole * random.uniform(0.5, 1.0)


@dataclass(slots=True)
class Attempts:
    """The tries of one call, within one deadline (seconds from now). Until `young_until`
    (time.monotonic) what is not found is only not known yet."""

    retries: Retries
    seconds: float
    repeats: Repeats
    young_until: float = 0.0
    failures: int = 0
    _ends: float = field(init=False)

    def __post_init__(self) -> None:
        self._ends = time.monotonic() + self.seconds

    def remaining(self) -> float:
        """Seconds that are left. Raises DeadlineExceeded where none are."""
        left = self._ends - time.monotonic()
        if left <= 0.0:
            raise DeadlineExceeded(f"no answer within {self.seconds:g} s", maybe_done=self.failures > 0)
        return left

    def pause_after(self, error: NoregretError) -> float:
        """Seconds to wait before the next try. Raises `error` where there is to be none, also where
        the pause would end after the deadline."""
        if isinstance(error, NotFound) and time.monotonic() < self.young_until:
            return _YOUNG_PAUSE_SECONDS
        self.failures += 1
        if self.failures >= self.retries.tries or not self._may_repeat(error):
            raise error
        pause = self.retries.pause(self.failures)
        if isinstance(error, PlatformUnavailable) and error.retry_after is not None:
            # Those who were told the same second don't come back in the same instant.
            pause = error.retry_after + min(pause, 0.1 * error.retry_after)
        if time.monotonic() + pause >= self._ends:
            raise error
        return pause

    def _may_repeat(self, error: NoregretError) -> bool:
        if isinstance(error, Unreachable):
            return not error.maybe_done or self.repeats is Repeats.SAFE
        status = getattr(error, "status", 0)
        return status in (_PASSING if self.repeats is Repeats.SAFE else _NOTHING_DONE)
