"""Did the split go as logged? Sample-ratio mismatch against each decision's own propensities,
watched for as long as one likes.

Where arm A was served with logged propensities p, and for a tilt w of one arm a that was fixed
before, the factor w**1[A = a] / (1 + p_a (w - 1)) has expectation 1 if A was drawn as logged. Its
product over decisions is a test martingale whatever the policy does, and so is the average over
arms and tilts: 1 / e is a p-value at every moment at once (Ville). A chi-squared test of counts
against summed propensities was rejected: it has the wrong variance where they vary, and looked at
for long enough it alarms in one of twenty sound experiments.

Are arms answered at different rates? While they are not, an answered decision's arm has its logged
propensities still: the same value, fed with the answered decisions alone, is the test. It is told
apart from a wrong split by the value of all decisions.

Source: Lindon & Malek 2022, anytime-valid inference for multinomial count data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from bandits.statistics import Array

ALARM = 0.001
"""Alarm below this p-value, of a split that did not go as logged, or of arms answered unevenly: at
most one sound experiment in a thousand ever gets there."""
_SMALLEST_EXPECTED = 5.0
_STEPS = np.array([0.005, 0.02, 0.08, 0.3, 1.2])
_TILTS = np.concatenate([_STEPS, -_STEPS])  # ln w
_AT_ONCE = 2_000_000  # numbers of a block of log factors


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """`log_factors` (K, G) are sums by arm and tilt, `seen` (K,) counts the decisions by arm,
    `expected` (K,) sums their propensities.

    Values add, in any order, to what one pass over all decisions gives.
    """

    log_factors: Array
    seen: Array
    expected: Array

    @classmethod
    def zeros(cls, arms: int) -> Self:
        return cls(np.zeros((arms, len(_TILTS))), np.zeros(arms), np.zeros(arms))

    @property
    def arms(self) -> int:
        return len(self.seen)

    def observe(self, arm: NDArray[np.int64], propensities: Array, counts: Array | None = None) -> Self:
        """After decisions with arms `arm` (n,) that were drawn with `propensities` (n, K), each
        `counts` (n,) times, or once.

        Raises ValueError for another number of arms.
        """
        if propensities.shape != (len(arm), self.arms):
            raise ValueError(f"propensities are {propensities.shape}: ({len(arm)}, {self.arms}) was expected")
        if len(arm) == 0:
            return self
        weights = np.ones(len(arm)) if counts is None else counts
        seen = np.bincount(arm, weights=weights, minlength=self.arms)
        sums = seen[:, None] * _TILTS
        # Those in a row that were drawn alike, as between two snapshots, have the same factors but
        # for their arms.
        starts = np.flatnonzero(np.concatenate(([True], (propensities[1:] != propensities[:-1]).any(axis=1))))
        alike, weights = propensities[starts], np.add.reduceat(weights, starts)
        size = max(_AT_ONCE // sums.size, 1)
        for start in range(0, len(alike), size):
            block, weight = alike[start : start + size, :, None], weights[start : start + size]
            sums -= np.einsum("nkg,n->kg", np.log1p(block * np.expm1(_TILTS)), weight)
        return type(self)(self.log_factors + sums, self.seen + seen, self.expected + weights @ alike)

    def __add__(self, other: Self) -> Self:
        arms = max(self.arms, other.arms)
        mine, theirs = self.with_arms(arms), other.with_arms(arms)
        return type(self)(
            mine.log_factors + theirs.log_factors, mine.seen + theirs.seen, mine.expected + theirs.expected
        )

    def with_arms(self, arms: int) -> Self:
        """For so many arms: new ones come last, of which nothing was seen."""
        more = arms - self.arms
        if more <= 0:
            return self
        return type(self)(
            np.pad(self.log_factors, ((0, more), (0, 0))),
            np.pad(self.seen, (0, more)),
            np.pad(self.expected, (0, more)),
        )

    @property
    def p(self) -> float | None:
        """A p-value that may be watched; None where nothing was seen, or only ever one arm could be
        drawn."""
        if ((self.expected > 0.0) | (self.seen > 0.0)).sum() < 2:
            return None
        log_e = float(special.logsumexp(self.log_factors)) - float(np.log(self.log_factors.size))
        return float(np.exp(-max(log_e, 0.0)))

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in ("log_factors", "seen", "expected")}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        return cls(*(np.asarray(state[name], dtype=np.float64) for name in ("log_factors", "seen", "expected")))


def sample_ratio_p(counts: Sequence[float], expected: Sequence[float]) -> float | None:
    """p-value of the chi-squared test of counts (K,) against the sums of logged propensities (K,),
    for one look.

    None when it can't be known: fewer than two arms with an expectation of 5 or more.
    """
    seen, wanted = np.asarray(counts, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    kept = wanted >= _SMALLEST_EXPECTED
    if kept.sum() < 2:
        return None
    chi_squared = float((np.square(seen[kept] - wanted[kept]) / wanted[kept]).sum())
    return float(stats.chi2.sf(chi_squared, int(kept.sum()) - 1))
