"""Is a mean past a limit, or past another arm's mean? Evidence by betting, that may be looked at all the time.

Against "the mean is at most m" one bets a share s of what one has on each value: x multiplies it by 1 + s (x - m) / r, where r is how
far below m a value can lie, so that nobody goes bankrupt. Under the null no factor's expectation is more than 1, whatever the law of the
values and whatever chose them by looking back, so the product is a test supermartingale; and so is the average over a grid of stakes. By
Ville's inequality it ever reaches 1 / alpha with probability at most alpha, at every count, from the first value on. Logarithms of
the factors add. Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting".

Nothing is known of a mean without bounds of its values: one in two thousand may be worth a thousand. Where none are declared, the lowest
value is taken to lie FAR times as far from the limit as the lowest that was seen of any arm (or 0, if that is lower). So rare large
values need as many others as their share asks for. A confidence sequence from the values' own variance was rejected: the mean and
the variance of few skewed values are low together, and it left out the truth in 24 to 97 % of runs.

Two arms are compared within strata inside which the allocation was fixed: with q the arm's share of a stratum's values, a value y of it
counts (1 - q) (y - h), and one of the control -q (y - h). Given the shares, the sum's expectation is n q (1 - q) (difference of means),
whatever the means do from stratum to stratum (common drift), whatever chose the shares (an adaptive policy), and however often each arm
is answered. h is any value near the means: it takes their common part out.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandits.statistics import Array

STAKES = 0.9 * 0.5 ** np.arange(10)
"""Shares that are staked, (K,): 0.9, 0.45, ... 0.0018."""
FAR = 6.0
"""How many times as far as the farthest value seen a value may yet come, where no bound is declared."""


@dataclass(frozen=True, slots=True)
class Wagers:
    """The logarithms of what each bet of a grid has won, (K,); they add over values."""

    logs: Array

    @classmethod
    def none(cls) -> "Wagers":
        return cls(np.zeros(len(STAKES)))

    @classmethod
    def on(cls, gains: Array) -> "Wagers":
        """Every stake on `gains` (n,), each of at least -1 and of expectation at most 0 under the null. Raises ValueError."""
        if len(gains) and not float(gains.min()) >= -1.0:
            raise ValueError("gains must be -1 or more")
        return cls(np.log1p(STAKES[:, None] * gains).sum(axis=1))

    def __add__(self, other: "Wagers") -> "Wagers":
        return Wagers(self.logs + other.logs)

    @property
    def evidence(self) -> float:
        """The average of what the bets have won; at most 1e300."""
        return math.exp(min(float(np.logaddexp.reduce(self.logs)) - math.log(len(self.logs)), 690.0))

    def more(self, count: float, needed: float) -> float | None:
        """About how many more values the evidence takes to `needed`, at the rate of these `count`; None where no bet has won."""
        best = float(self.logs.max())
        if not best > 0.0 or not self.evidence < needed:
            return None
        return max(count * ((math.log(needed) + math.log(len(self.logs))) / best - 1.0), 1.0)


def reach(limit: float, lowest: float, highest: float, minimum: float | None = None) -> float | None:
    """How far below `limit` a value can lie; None where nothing is known of that.

    `lowest` and `highest` are the ends of what was seen, of any arm; `minimum` is the declared bound. With a declared bound at the limit
    or above it, a tiny reach: whatever lies above the limit is then past it.
    """
    if minimum is not None:
        return max(limit - minimum, 1e-9 * max(abs(limit), 1.0))
    if not lowest < highest:
        return None  # it never varied: what it can be is not known
    farthest = limit - min(lowest, 0.0)
    return FAR * farthest if farthest > 0.0 else FAR * (highest - limit)


def gains_above(values: Array, limit: float, far: float) -> Array:
    """What each value (n,) brings to a bet that the mean is more than `limit`; `far` as from `reach`."""
    return np.maximum((values - limit) / far, -1.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """What values of two arms are held against: `middle` near their means, `minimum` and `maximum` their bounds."""

    middle: float
    minimum: float
    maximum: float

    @classmethod
    def seen(
        cls, middle: float, lowest: float, highest: float, minimum: float | None, maximum: float | None
    ) -> "Scale | None":
        """From what was seen, where a bound is not declared; None where the values never varied."""
        if (minimum is None or maximum is None) and not lowest < highest:
            return None
        farthest = FAR * max(middle - lowest, highest - middle)
        return cls(
            middle,
            middle - farthest if minimum is None else minimum,
            middle + farthest if maximum is None else maximum,
        )

    def mirrored(self) -> "Scale":
        """The scale of the values' negatives."""
        return Scale(-self.middle, -self.maximum, -self.minimum)


def gains_of_difference(own: NDArray[np.bool_], values: Array, share: Array, limit: float, scale: Scale) -> Array:
    """What each value brings to a bet that the arm's mean is more than `limit` above the control's.

    `own` (n,): is it the arm's, or the control's; `share` (n,): the arm's part of the values of the stratum. Nothing comes of strata
    that one of the two has alone.
    """
    both = share * (1.0 - share)
    counted = np.where(own, 1.0 - share, -share) * (np.clip(values, scale.minimum, scale.maximum) - scale.middle)
    worst = np.maximum((1.0 - share) * (scale.middle - scale.minimum), share * (scale.maximum - scale.middle))
    worst = worst + both * max(limit, 0.0)
    return np.where(both > 0.0, (counted - both * limit) / np.where(both > 0.0, worst, 1.0), 0.0)


def failure_wagers(own_failed: Array, own: Array, control_failed: Array, control: Array, limit: float) -> Wagers:
    """Bets that an arm fails in more than `limit` more of its decisions than the control, from counts by stratum, each (S,).

    The same bets as `gains_of_difference` of values 0 and 1, with their middle at 0: failures are rare.
    """
    total = own + control
    compared = (own > 0) & (control > 0)
    own_failed, control_failed = own_failed[compared], control_failed[compared]
    own, control, total = own[compared], control[compared], total[compared]
    share = own / total
    both = share * (1.0 - share)
    worst = share + both * max(limit, 0.0)
    stakes = STAKES[:, None]
    free = -both * limit
    logs = (
        own_failed * np.log1p(stakes * (1.0 - share + free) / worst)
        + control_failed * np.log1p(stakes * (-share + free) / worst)
        + (total - own_failed - control_failed) * np.log1p(stakes * free / worst)
    )
    return Wagers(logs.sum(axis=1))
