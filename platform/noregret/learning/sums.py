"""Sums over an experiment's ledger that its results are told from, as a value: it adds, and it is a
document.

By part of the outcomes, an arm or a side of the holdout: what units earned there, and what weights
by the logged probabilities make of it. Beside them how many decisions fell on each side, what an
apprentice would have served, and how often that would have been right. No row of the ledger and no
unit reaches this module (noregret.learning.summing).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bandits.inference.even_split import EvenSplit
from bandits.inference.units import UnitSums, UnitTotals
from bandits.statistics import Array

NOT_HELD_OUT, HELD_OUT = 0, -1
"""The parts that are sides of a holdout; every other part is an arm, by its id."""
NEWEST = 50
"""So many of an arm's newest decisions are remembered, and whether it could serve them."""
_POWERS = 3


class Scored(NamedTuple):
    """Of an apprentice's choices: decisions, those whose chosen arm predicted, and how often it and
    the control were right."""

    decisions: int = 0
    judged: int = 0
    right: int = 0
    control_right: int = 0

    def plus(self, other: "Scored") -> "Scored":
        return Scored(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def minus(self, other: "Scored") -> "Scored":
        return Scored(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Part:
    """The outcomes of an arm or of a side, all taken from `level`, one of them.

    `units`: how many there are, then bandits.inference.units.UnitTotals of their outcomes, then the
    sums of W_u^2, W_u T_u and T_u^2, W_u being the sum of a unit's weights and T_u its weighted
    total. `split`: by power of the weight the sums of it, of outcomes times it, and of squares
    times it.
    """

    level: float
    units: Array = field(default_factory=lambda: np.zeros(9))
    split: Array = field(default_factory=lambda: np.zeros(3 * _POWERS))

    def __add__(self, other: "Part") -> "Part":
        """Raises ValueError for parts of different levels."""
        if self.level != other.level:
            raise ValueError(f"sums from the levels {self.level!r} and {other.level!r} can't be added")
        return Part(self.level, self.units + other.units, self.split + other.split)

    def from_level(self, level: float) -> "Part":
        """The same outcomes, taken from another level."""
        d = self.level - level
        units, n, t, nn, nt, tt, ww, wt, w_tt = self.units
        squares, weighted_squares = tt + d * (2 * nt + d * nn), w_tt + d * (2 * wt + d * ww)
        w, x, xx = self.split.reshape(_POWERS, 3).T
        return Part(
            level,
            np.array([units, n, t + d * n, nn, nt + d * nn, squares, ww, wt + d * ww, weighted_squares]),
            np.column_stack([w, x + d * w, xx + d * (2 * x + d * w)]).ravel(),
        )

    @property
    def count(self) -> int:
        """Units."""
        return round(float(self.units[0]))

    @property
    def rewards(self) -> int:
        return round(float(self.units[1]))

    @property
    def mean(self) -> float:
        return self.level + float(self.units[2] / self.units[1]) if self.units[1] else 0.0

    def unit_sums(self) -> UnitSums:
        """What units are weighed by."""
        return UnitTotals(*self.units[1:6]).around_mean()

    def weighted_unit_sums(self) -> UnitSums:
        """The same of the weighted outcomes."""
        _, split_weights, *_ = self.split.reshape(_POWERS, 3)
        return UnitTotals(split_weights[0], split_weights[1], *self.units[6:9]).around_mean()


@dataclass(frozen=True, slots=True)
class Sums:
    """`decisions` (2,) by holdout side, `choices` by proposed arm id, `parts` by part; `share` (K,)
    is what an even split would have given each arm, by position. `newest` by arm id: when its
    newest decisions were made, in microseconds since 1970, negative where it failed.
    """

    decisions: tuple[int, int] = (0, 0)
    choices: Mapping[int, int] = field(default_factory=dict)
    scored: Scored = field(default_factory=Scored)
    parts: Mapping[int, Part] = field(default_factory=dict)
    share: tuple[float, ...] = ()
    newest: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __add__(self, other: "Sums") -> "Sums":
        parts = dict(self.parts)
        for key, part in other.parts.items():
            parts[key] = parts[key] + part if key in parts else part
        choices = {
            arm: self.choices.get(arm, 0) + other.choices.get(arm, 0)
            for arm in self.choices.keys() | other.choices.keys()
        }
        return Sums(
            (self.decisions[0] + other.decisions[0], self.decisions[1] + other.decisions[1]),
            choices,
            self.scored.plus(other.scored),
            parts,
            _longer(self.share, other.share),
            {
                arm: newest((*self.newest.get(arm, ()), *other.newest.get(arm, ())))
                for arm in self.newest.keys() | other.newest.keys()
            },
        )

    def failed(self, arm: int) -> list[bool]:
        """Of an arm's newest decisions, newest first: could it not serve them?"""
        return [at < 0 for at in self.newest.get(arm, ())]

    def of_units(self, parts: Sequence[int]) -> UnitSums:
        """What units are weighed by, (K,) for K parts; nothing of a part without an outcome."""
        return _stacked([self.parts[part].unit_sums() if part in self.parts else None for part in parts])

    def of_weighted_units(self, parts: Sequence[int]) -> UnitSums:
        return _stacked([self.parts[part].weighted_unit_sums() if part in self.parts else None for part in parts])

    def even_split(self, arms: Sequence[int]) -> EvenSplit:
        """Of these arms, which are given by position."""
        held = [self.parts.get(arm, Part(0.0)) for arm in arms]
        count, total, squares = np.array([part.split.reshape(_POWERS, 3) for part in held]).transpose(2, 1, 0)
        share = np.zeros(len(arms))
        share[: len(self.share)] = self.share[: len(arms)]
        return EvenSplit.from_sums(np.array([part.level for part in held]), count, total, squares, share)

    def to_dict(self) -> dict[str, Any]:
        return {
            "decisions": list(self.decisions),
            "choices": {str(arm): count for arm, count in sorted(self.choices.items())},
            "scored": list(self.scored),
            "parts": {
                str(key): {"level": part.level, "units": part.units.tolist(), "split": part.split.tolist()}
                for key, part in sorted(self.parts.items())
            },
            "share": list(self.share),
            "newest": {str(arm): list(times) for arm, times in sorted(self.newest.items())},
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Sums":
        """An empty document is of nothing."""
        if not state:
            return cls()
        held, held_out = state["decisions"]
        return cls(
            (held, held_out),
            {int(arm): count for arm, count in state["choices"].items()},
            Scored(*state["scored"]),
            {
                int(key): Part(part["level"], np.array(part["units"], float), np.array(part["split"], float))
                for key, part in state["parts"].items()
            },
            tuple(state["share"]),
            {int(arm): tuple(times) for arm, times in state["newest"].items()},
        )


def newest(times: Iterable[int]) -> tuple[int, ...]:
    """The latest of decisions, as `Sums.newest` has them, in an order that the decisions alone
    decide."""
    at = np.array(tuple(times), dtype=np.int64)
    return tuple(at[np.lexsort((at, -np.abs(at)))[:NEWEST]].tolist())


def _longer(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    """The sum, where arms came later."""
    width = max(len(one), len(other))
    return tuple((one[i] if i < len(one) else 0.0) + (other[i] if i < len(other) else 0.0) for i in range(width))


def _stacked(parts: Sequence[UnitSums | None]) -> UnitSums:
    rows = [(0.0, 0.0, 0.0) if one is None else (one.count, one.squared_count, one.squared_residual) for one in parts]
    return UnitSums(*np.array(rows, dtype=np.float64).T)
