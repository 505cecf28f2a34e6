"""Two arms beside each other, stratum after stratum, as a state that goes on: nothing of a stratum
that is closed is read again.

What is compared comes in order, in groups (values that one policy version decided in one bucket of
time; the failures of ten seconds), inside each of which the allocation was fixed. A stratum is as
many groups in a row as it takes to have enough. The bets are those of `bandits.inference.betting`;
each is made with what was known before its stratum: its middle is the mean of the stratum before,
and where no bound of the values is declared, one is taken to lie FAR times as far from the middle
as the farthest value of all strata before. The first stratum is only looked at. To hold what is
past against the ends that were seen later was rejected: each new end would change all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandits.statistics import Array

from .betting import FAR, Wagers, failure_wagers

STRATUM_VALUES = 20
STRATUM_DECISIONS = 50
"""A stratum has at least so many values or decisions of the two arms; smaller ones would often have
one arm alone, and tell nothing."""
MOST_VALUES = 100
"""A group of more values is cut, in order of time, or an allocation that stands for long would
never come past its first stratum."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What is bet: that the difference of the means is more than `above`, and that it is less than
    `below`; and the values' bounds."""

    above: float | None = None
    below: float | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class ValueStrata:
    """The arm's values beside the control's. `own`, `control`: how many were compared, those of the
    stratum that is not full left out.

    `counted` and `both` are sums over values: their ratio is the difference of the means, weighted
    by how much each stratum can tell. `middle`, `lowest`, `highest`: the last stratum's mean and
    the ends of all. `waiting`: (is it the arm's, value) of the open stratum.
    """

    own: float = 0.0
    control: float = 0.0
    counted: float = 0.0
    both: float = 0.0
    above: Wagers = field(default_factory=Wagers.none)
    below: Wagers = field(default_factory=Wagers.none)
    middle: float = math.nan
    lowest: float = math.inf
    highest: float = -math.inf
    waiting: tuple[tuple[bool, float], ...] = ()

    @property
    def difference(self) -> float | None:
        return self.counted / self.both if self.both > 0.0 else None

    def observe(
        self, own: NDArray[np.bool_], values: Array, group: NDArray[np.int64], sides: Sides, *, last: bool = False
    ) -> "ValueStrata":
        """With these values (n,) too, in order of their groups (n,) and of time. `last`: the open
        stratum is closed as it is."""
        own = np.concatenate((np.array([each for each, _ in self.waiting], dtype=np.bool_), own))
        values = np.concatenate((np.array([value for _, value in self.waiting], dtype=np.float64), values))
        starts = np.flatnonzero(np.diff(group)) + 1 + len(self.waiting)
        ends = _full([*([len(self.waiting)] if self.waiting else []), *starts.tolist()], len(values), last=last)
        done = ends[-1] if ends else 0
        after = self._bet(own[:done], values[:done], ends, sides) if ends else self
        rest = zip(own[done:].tolist(), values[done:].tolist(), strict=True)
        return replace(after, waiting=tuple(rest))

    def _bet(self, own: NDArray[np.bool_], values: Array, ends: list[int], sides: Sides) -> "ValueStrata":
        starts = np.array([0, *ends[:-1]])
        sizes = np.diff([0, *ends])
        lows, highs = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        # Within their ends: rounding would leave a mean beside values that are all the same, and a
        # reach of next to nothing.
        means = np.clip(np.add.reduceat(values / np.repeat(sizes, sizes), starts), lows, highs)
        lowest = np.minimum.accumulate(np.concatenate(([self.lowest], lows)))
        highest = np.maximum.accumulate(np.concatenate(([self.highest], highs)))
        middle = np.concatenate(([self.middle], means[:-1]))
        share = np.repeat(np.add.reduceat(own.astype(np.float64), starts) / sizes, sizes)
        both = share * (1.0 - share)
        factor = np.where(own, 1.0 - share, -share)
        farthest = FAR * np.maximum(middle - lowest[:-1], highest[:-1] - middle)
        low = middle - farthest if sides.minimum is None else np.full(len(ends), sides.minimum)
        high = middle + farthest if sides.maximum is None else np.full(len(ends), sides.maximum)
        known = np.isfinite(middle) & (low < high)
        scale = tuple(np.repeat(np.where(known, end, 0.0), sizes) for end in (middle, low, high))
        known = np.repeat(known, sizes)
        above, below = self.above, self.below
        if sides.above is not None:
            above = above + Wagers.on(_gains(values, scale, factor, share, sides.above, known))
        if sides.below is not None:
            mirrored = (-scale[0], -scale[2], -scale[1])
            below = below + Wagers.on(_gains(-values, mirrored, factor, share, -sides.below, known))
        return ValueStrata(
            self.own + float(own.sum()),
            self.control + float((~own).sum()),
            # Whatever is taken from all values of a stratum leaves this sum as it is: its own mean
            # keeps it near 0.
            self.counted + float((factor * (values - np.repeat(means, sizes))).sum()),
            self.both + float(both.sum()),
            above,
            below,
            float(means[-1]),
            float(lowest[-1]),
            float(highest[-1]),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "own": self.own,
            "control": self.control,
            "counted": self.counted,
            "both": self.both,
            "above": self.above.logs.tolist(),
            "below": self.below.logs.tolist(),
            "seen": None if math.isnan(self.middle) else [self.middle, self.lowest, self.highest],
            "waiting": [[bool(own), value] for own, value in self.waiting],
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "ValueStrata":
        if not state:
            return cls()
        middle, lowest, highest = state["seen"] or (math.nan, math.inf, -math.inf)
        return cls(
            state["own"],
            state["control"],
            state["counted"],
            state["both"],
            Wagers(np.array(state["above"], dtype=np.float64)),
            Wagers(np.array(state["below"], dtype=np.float64)),
            middle,
            lowest,
            highest,
            tuple((bool(own), float(value)) for own, value in state["waiting"]),
        )


def _full(starts: Sequence[int], total: int, *, last: bool) -> list[int]:
    """Where strata end, of groups that start at 0 and at `starts`: each has enough values, or is
    the last."""
    ends: list[int] = []
    for end in (*starts, total):
        while end - (ends[-1] if ends else 0) > MOST_VALUES:
            ends.append((ends[-1] if ends else 0) + MOST_VALUES)
        if end - (ends[-1] if ends else 0) >= STRATUM_VALUES:
            ends.append(end)
    if last and total > (ends[-1] if ends else 0):
        ends.append(total)
    return ends


def _gains(
    values: Array,
    scale: tuple[Array, ...],
    factor: Array,
    share: Array,
    limit: float,
    known: NDArray[np.bool_],
) -> Array:
    """What each value (n,) brings to a bet that the arm's mean is more than `limit` above the
    control's.

    `factor` (n,) is 1 - share for the arm's and -share for the control's; nothing comes of a
    stratum that one of the two has alone.
    """
    middle, low, high = scale
    both = share * (1.0 - share)
    counted = factor * (np.clip(values, low, np.maximum(high, low)) - middle)
    worst = np.maximum((1.0 - share) * (middle - low), share * (high - middle)) + both * max(limit, 0.0)
    told = known & (both > 0.0) & (worst > 0.0)
    return np.where(told, np.maximum((counted - both * limit) / np.where(told, worst, 1.0), -1.0), 0.0)


@dataclass(frozen=True, slots=True)
class FailureStrata:
    """The arm's failures beside the control's. `alone`: (failed, decisions) of the arm in strata
    that the control has no part in.

    `part`: a name of the stretch in which the split did not change: no stratum reaches over its
    end. `waiting`: (the arm's failed, decisions, the control's failed, decisions) of the last, open
    stratum.
    """

    wagers: Wagers = field(default_factory=Wagers.none)
    control_failed: float = 0.0
    control: float = 0.0
    alone: tuple[float, float] = (0.0, 0.0)
    part: str = ""
    waiting: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def observe(self, counts: Array, parts: Sequence[str], limit: float, *, last: bool = False) -> "FailureStrata":
        """With `counts` (n, 4), as of `waiting`, of stretches of time in order, and their parts.
        `last`: close the open stratum."""
        closed: list[tuple[float, ...]] = []
        waiting, part = np.array(self.waiting), self.part
        for row, named in zip(counts, parts, strict=True):
            if named != part and waiting.any():
                closed.append(tuple(waiting))
                waiting = np.zeros(4)
            part = named
            waiting = waiting + row
            if waiting[1] + waiting[3] >= STRATUM_DECISIONS:
                closed.append(tuple(waiting))
                waiting = np.zeros(4)
        if last and waiting.any():
            closed.append(tuple(waiting))
            waiting = np.zeros(4)
        strata = np.array(closed, dtype=np.float64).reshape(-1, 4)
        alone = strata[strata[:, 3] == 0.0]
        return FailureStrata(
            self.wagers + failure_wagers(strata[:, 0], strata[:, 1], strata[:, 2], strata[:, 3], limit),
            self.control_failed + float(strata[:, 2].sum()),
            self.control + float(strata[:, 3].sum()),
            (self.alone[0] + float(alone[:, 0].sum()), self.alone[1] + float(alone[:, 1].sum())),
            part,
            (float(waiting[0]), float(waiting[1]), float(waiting[2]), float(waiting[3])),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "logs": self.wagers.logs.tolist(),
            "control_failed": self.control_failed,
            "control": self.control,
            "alone": list(self.alone),
            "part": self.part,
            "waiting": list(self.waiting),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "FailureStrata":
        if not state:
            return cls()
        own_failed, own, control_failed, control = state["waiting"]
        return cls(
            Wagers(np.array(state["logs"], dtype=np.float64)),
            state["control_failed"],
            state["control"],
            (state["alone"][0], state["alone"][1]),
            state["part"],
            (own_failed, own, control_failed, control),
        )
