"""Linear rewards: y = x'theta + noise. A Gaussian prior, and statistics of (x, y) that add.

Sources: Li et al. 2010 (LinUCB, one model an arm); Agrawal & Goyal 2013 (linear Thompson sampling).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandits.statistics import ArmStatistics, Array


def solve(matrix: Array, vector: Array) -> Array:
    """matrix^-1 vector, for matrices (..., d, d) and vectors (..., d)."""
    return np.asarray(np.linalg.solve(matrix, vector[..., None])[..., 0], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class LinearStatistics:
    """What K arms' models know of their (x, y): sums, so shards merge by `+` in any order.

    `gram` (..., K, d, d) sums x x', `moment` (..., K, d) sums x y, `features` (..., K, d) sums x;
    `rewards` has the moments of y.
    """

    gram: Array
    moment: Array
    features: Array
    rewards: ArmStatistics

    @classmethod
    def zeros(cls, *shape: int, dimension: int) -> "LinearStatistics":
        """Nothing seen; `shape` ends in the number of arms."""
        return cls(
            np.zeros((*shape, dimension, dimension)),
            np.zeros((*shape, dimension)),
            np.zeros((*shape, dimension)),
            ArmStatistics.zeros(*shape),
        )

    @classmethod
    def from_rows(
        cls, arm: NDArray[np.int64], x: Array, y: Array, arms: int, weights: Array | None = None
    ) -> "LinearStatistics":
        """Of rows `x` (n, d) with rewards `y` (n,) by `arm` (n,); each row may have a weight,
        (n,)."""
        found = cls.zeros(arms, dimension=x.shape[1])
        for position in np.unique(arm):
            mine = arm == position
            weighted = x[mine] if weights is None else x[mine] * weights[mine, None]
            found.gram[position] = weighted.T @ x[mine]
            found.moment[position] = weighted.T @ y[mine]
            found.features[position] = weighted.sum(axis=0)
        return cls(found.gram, found.moment, found.features, ArmStatistics.from_rewards(arm, y, arms, weights))

    def __add__(self, other: "LinearStatistics") -> "LinearStatistics":
        return LinearStatistics(
            self.gram + other.gram,
            self.moment + other.moment,
            self.features + other.features,
            self.rewards + other.rewards,
        )

    @property
    def arms(self) -> int:
        return int(self.moment.shape[-2])

    @property
    def dimension(self) -> int:
        return int(self.moment.shape[-1])

    def faded(self, factor: float) -> "LinearStatistics":
        """Every row's weight times `factor`, in (0, 1]."""
        return LinearStatistics(
            self.gram * factor, self.moment * factor, self.features * factor, self.rewards.faded(factor)
        )

    def affine(self, shift: float | Array, scale: float | Array) -> "LinearStatistics":
        """The statistics of (y - shift) / scale; `shift` and `scale` broadcast to (..., K)."""
        shifted = self.moment - np.asarray(shift)[..., None] * self.features
        return LinearStatistics(
            self.gram, shifted / np.asarray(scale)[..., None], self.features, self.rewards.affine(shift, scale)
        )

    def with_arms(self, arms: int) -> "LinearStatistics":
        """For so many arms, (K, ...): new ones come last, and have seen nothing."""
        new = (0, max(arms - self.arms, 0))
        return LinearStatistics(
            np.pad(self.gram, (new, (0, 0), (0, 0))),
            np.pad(self.moment, (new, (0, 0))),
            np.pad(self.features, (new, (0, 0))),
            self.rewards.padded(new),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "gram": self.gram.tolist(),
            "moment": self.moment.tolist(),
            "features": self.features.tolist(),
            "rewards": self.rewards.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "LinearStatistics":
        gram, moment, features = (np.asarray(state[name], dtype=np.float64) for name in ("gram", "moment", "features"))
        return cls(gram, moment, features, ArmStatistics.from_dict(state["rewards"]))


@dataclass(frozen=True, slots=True)
class BayesianLinear:
    """theta ~ N(mean, precision^-1): `mean` (..., d), `precision` (..., d, d) in units of the
    noise."""

    mean: Array
    precision: Array

    @classmethod
    def of(cls, statistics: LinearStatistics, ridge: float = 1.0) -> "BayesianLinear":
        """The posteriors of all arms from the prior N(0, I / ridge)."""
        precision = statistics.gram + ridge * np.eye(statistics.dimension)
        return cls(solve(precision, statistics.moment), precision)
