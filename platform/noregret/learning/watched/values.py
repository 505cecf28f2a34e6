"""A metric's values for one arm, as sums that add: how many, their mean and ends, and what bets on
the mean have won."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bandits.inference import betting
from bandits.inference.betting import Ladder, Wagers
from bandits.inference.strata import Sides
from bandits.statistics import Array
from noregret.learning.models import WatchedMetric, WatchedValues
from serving.feedback import MAX_VALUE

from .watches import Watch


@dataclass(frozen=True, slots=True)
class ValueSums:
    """Values of one arm. They add; `above` and `below` are logarithms of what bets have won: of a
    Ladder, or of Wagers where the bound that they need is declared.
    """

    count: int
    mean: float
    lowest: float
    highest: float
    above: Array
    below: Array

    @classmethod
    def of(cls, values: Array, watch: Watch) -> "ValueSums":
        sides = watch.sides
        values = cut(values, sides)
        above = below = np.zeros(0)
        if watch.kind == "mean":
            above = _won(values, sides.above, sides.minimum)
            below = _won(-values, _negative(sides.below), _negative(sides.maximum))
        return cls(len(values), float(values.mean()), float(values.min()), float(values.max()), above, below)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"above": self.above.tolist(), "below": self.below.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "ValueSums":
        return cls(**state | {"above": np.array(state["above"]), "below": np.array(state["below"])})

    def __add__(self, other: "ValueSums") -> "ValueSums":
        count = self.count + other.count
        return ValueSums(
            count,
            self.mean + (other.mean - self.mean) * (other.count / count),
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            self.above + other.above,
            self.below + other.below,
        )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def cut(values: Array, sides: Sides) -> Array:
    """Values beyond the declared bounds count as the bound; and none is more than what is taken
    today."""
    low = -MAX_VALUE if sides.minimum is None else max(sides.minimum, -MAX_VALUE)
    high = MAX_VALUE if sides.maximum is None else min(sides.maximum, MAX_VALUE)
    return np.clip(values, low, high)


def _won(values: Array, limit: float | None, minimum: float | None) -> Array:
    """What bets have won that the mean is more than `limit`."""
    if limit is None:
        return np.zeros(0)
    if minimum is None:
        return Ladder.on(values, limit).logs
    far = betting.reach(limit, 0.0, 0.0, minimum)
    assert far is not None, "known from the bound"
    return Wagers.on(betting.gains_above(values, limit, far)).logs


def sums_of(values: Iterable[tuple[int, float]], watch: Watch) -> dict[int, ValueSums]:
    """By arm id, of (arm id, value)."""
    by_arm: dict[int, list[float]] = {}
    for arm, value in values:
        if abs(value) <= MAX_VALUE:  # others are taken no more, but an old ledger may hold some; NaN is none
            by_arm.setdefault(arm, []).append(value)
    return {arm: ValueSums.of(np.array(found), watch) for arm, found in sorted(by_arm.items())}


def of_row(row: WatchedValues) -> ValueSums:
    return ValueSums(row.count, row.mean, row.lowest, row.highest, np.array(row.above), np.array(row.below))


def values_row(watched: WatchedMetric, arm: int, sums: ValueSums) -> WatchedValues:
    return WatchedValues(
        watched=watched,
        arm_id=arm,
        count=sums.count,
        mean=sums.mean,
        lowest=sums.lowest,
        highest=sums.highest,
        above=sums.above.tolist(),
        below=sums.below.tolist(),
    )
