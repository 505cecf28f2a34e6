"""Is a mean past a limit, or past another arm's mean? Evidence by betting, that may be looked at
all the time.

Against "the mean is at most m" one bets a share s of what one has on each value: x multiplies it by
1 + s (x - m) / r, where r is how far below m a value can lie, so that nobody goes bankrupt. Under
the null no factor's expectation is more than 1, whatever the law of the values and whatever chose
them by looking back, so the product is a test supermartingale; and so is the average over a grid of
stakes. By Ville's inequality it ever reaches 1 / alpha with probability at most alpha, at every
count, from the first value on. Logarithms of the factors add. Source: Waudby-Smith & Ramdas 2024,
"Estimating means of bounded random variables by betting".

Nothing is known of a mean without bounds of its values: one in two thousand may be worth a
thousand. Where none are declared, the lowest value is taken to lie FAR times as far from the limit
as the lowest that was seen of any arm (or 0, if that is lower). So rare large values need as many
others as their share asks for. A confidence sequence from the values' own variance was rejected:
the mean and the variance of few skewed values are low together, and it left out the truth in 24 to
97 % of runs.

That reach grows with what is seen, and what was bet before would have to be bet anew. So it is
rounded up to a power of 2, as the stakes are: a stake on twice the reach is the next smaller stake
on this one. One ladder of sums so holds the bets of every reach (`Ladder`).

Two arms are compared within strata inside which the allocation was fixed: with q the arm's share of
a stratum's values, a value y of it counts (1 - q) (y - h), and one of the control -q (y - h). Given
the shares, the sum's expectation is n q (1 - q) (difference of means), whatever the means do from
stratum to stratum (common drift), whatever chose the shares (an adaptive policy), and however often
each arm is answered. h is the mean of the stratum before: it takes out what both have in common,
and no outcome of this stratum has a part in it.
"""

import math
from dataclasses import dataclass

import numpy as np

from bandits.statistics import Array

STAKES = 0.9 * 0.5 ** np.arange(10)
"""Shares that are staked, (K,): 0.9, 0.45, ... 0.0018."""
FAR = 6.0
"""How many times as far as the farthest value seen a value may yet come, where no bound is
declared."""


@dataclass(frozen=True, slots=True)
class Wagers:
    """The logarithms of what each bet of a grid has won, (K,); they add over values."""

    logs: Array

    @classmethod
    def none(cls) -> "Wagers":
        return cls(np.zeros(len(STAKES)))

    @classmethod
    def on(cls, gains: Array) -> "Wagers":
        """Every stake on `gains` (n,), each of at least -1 and of expectation at most 0 under the
        null. Raises ValueError."""
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
        """About how many more values the evidence takes to `needed`, at the rate of these `count`;
        None where no bet has won."""
        best = float(self.logs.max())
        if not best > 0.0 or not self.evidence < needed:
            return None
        return max(count * ((math.log(needed) + math.log(len(self.logs))) / best - 1.0), 1.0)


def reach(limit: float, lowest: float, highest: float, minimum: float | None = None) -> float | None:
    """How far below `limit` a value can lie; None where nothing is known of that.

    `lowest` and `highest` are the ends of what was seen, of any arm; `minimum` is the declared
    bound. With a declared bound at the limit or above it, a tiny reach: whatever lies above the
    limit is then past it.
    """
    if minimum is not None:
        return max(limit - minimum, 1e-9 * max(abs(limit), 1.0))
    if not lowest < highest:
        return None  # it never varied: what it can be is not known
    farthest = limit - min(lowest, 0.0)
    return FAR * farthest if farthest > 0.0 else FAR * (highest - limit)


def gains_above(values: Array, limit: float, far: float) -> Array:
    """What each value (n,) brings to a bet that the mean is more than `limit`; `far` as from
    `reach`."""
    return np.maximum((values - limit) / far, -1.0)


_LEAST_RUNG, _RUNGS = -60, 115
"""Reaches from 2**-60 to 2**54: values and limits are at most 1e15 either way, and FAR times their
distance is less than that."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Bets that a mean is more than a limit, for every reach that is a power of 2: sums that add,
    (_RUNGS + K - 1,).

    Entry i is the sum of log(1 + 0.9 (x - limit) / 2**(i + _LEAST_RUNG)) over the values x.
    """

    logs: Array

    @classmethod
    def none(cls) -> "Ladder":
        return cls(np.zeros(_RUNGS + len(STAKES) - 1))

    @classmethod
    def on(cls, values: Array, limit: float) -> "Ladder":
        """Of `values` (n,), each and the limit at most 1e15 either way."""
        per_unit = STAKES[0] * np.exp2(-np.arange(_LEAST_RUNG, _LEAST_RUNG + _RUNGS + len(STAKES) - 1))
        # A rung that a value does not fit on is never asked for: the reach is more than any
        # distance that was seen.
        return cls(np.array([np.log1p(np.maximum(each * (values - limit), -STAKES[0])).sum() for each in per_unit]))

    def __add__(self, other: "Ladder") -> "Ladder":
        return Ladder(self.logs + other.logs)

    def wagers(self, far: float) -> Wagers:
        """The bets of the smallest power of 2 that is `far` or more: `far` as from `reach` without
        a declared minimum."""
        rung = min(max(math.ceil(math.log2(far)) - _LEAST_RUNG, 0), _RUNGS - 1)
        return Wagers(self.logs[rung : rung + len(STAKES)])


def failure_wagers(own_failed: Array, own: Array, control_failed: Array, control: Array, limit: float) -> Wagers:
    """Bets that an arm fails in more than `limit` more of its decisions than the control, from
    counts by stratum, each (S,).

    The same bets as those of values 0 and 1 (bandits.inference.strata), with their middle at 0:
    failures are rare.
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
