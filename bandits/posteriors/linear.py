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

    `gram` (..., K, d, d) sums x x', `moment` (..., K, d) sums x y, `features` (..., K, d) sums x; `rewards` has the moments of y.
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
        """Of rows `x` (n, d) with rewards `y` (n,) by `arm` (n,); each row may have a weight, (n,)."""
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

    def decayed(self, factor: float) -> "LinearStatistics":
        """Every row's weight times `factor`, in (0, 1]."""
        return LinearStatistics(
            self.gram * factor, self.moment * factor, self.features * factor, self.rewards.decayed(factor)
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

    def among(self, mask: NDArray[np.bool_]) -> "LinearStatistics":
        """Of the arms in `mask` (K,) only."""
        rewards = ArmStatistics(*(part[..., mask] for part in (self.rewards.count, self.rewards.mean, self.rewards.m2)))
        return LinearStatistics(
            self.gram[..., mask, :, :], self.moment[..., mask, :], self.features[..., mask, :], rewards
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
    """theta ~ N(mean, precision^-1): `mean` (..., d), `precision` (..., d, d) in units of the noise."""

    mean: Array
    precision: Array

    @classmethod
    def prior(cls, *shape: int, dimension: int, ridge: float = 1.0) -> "BayesianLinear":
        """N(0, I / ridge) for each of `shape`."""
        return cls(
            np.zeros((*shape, dimension)), np.broadcast_to(np.eye(dimension) * ridge, (*shape, dimension, dimension))
        )

    @classmethod
    def of(cls, statistics: LinearStatistics, ridge: float = 1.0) -> "BayesianLinear":
        """The posteriors of all arms from the prior N(0, I / ridge)."""
        precision = statistics.gram + ridge * np.eye(statistics.dimension)
        return cls(solve(precision, statistics.moment), precision)

    def update(self, x: Array, y: Array) -> "BayesianLinear":
        """After rows `x` (n, d) with rewards `y` (n,)."""
        precision = self.precision + x.T @ x
        moment = self._moment() + x.T @ y
        return BayesianLinear(solve(precision, moment), precision)

    def merge(self, other: "BayesianLinear", prior: "BayesianLinear") -> "BayesianLinear":
        """The posterior of both sides' data, when both began from `prior`."""
        precision = self.precision + other.precision - prior.precision
        moment = self._moment() + other._moment() - prior._moment()
        return BayesianLinear(solve(precision, moment), precision)

    def decay(self, factor: float, prior: "BayesianLinear") -> "BayesianLinear":
        """Every row's weight times `factor`; the prior stays."""
        precision = prior.precision + factor * (self.precision - prior.precision)
        return BayesianLinear(
            solve(precision, prior._moment() + factor * (self._moment() - prior._moment())), precision
        )

    def _moment(self) -> Array:
        return np.asarray((self.precision @ self.mean[..., None])[..., 0])

    def predict(self, x: Array) -> tuple[Array, Array]:
        """(mean, standard deviation) of x'theta for `x` (..., d), the deviation in units of the noise's."""
        mean = np.einsum("...d,...d->...", x, self.mean)
        solved = solve(self.precision, x)
        return mean, np.sqrt(np.maximum(np.einsum("...d,...d->...", x, solved), 0.0))

    def sample(self, rng: np.random.Generator, scale: float = 1.0) -> Array:
        """A draw of every theta, its deviation times `scale`: (..., d)."""
        lower = np.linalg.cholesky(self.precision)
        noise = rng.standard_normal(self.mean.shape)[..., None]
        draw: Array = self.mean + scale * np.linalg.solve(np.swapaxes(lower, -1, -2), noise)[..., 0]
        return draw

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "precision": np.asarray(self.precision).tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "BayesianLinear":
        return cls(*(np.asarray(state[name], dtype=np.float64) for name in ("mean", "precision")))
