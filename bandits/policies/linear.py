"""Policies with a linear model an arm. Sources: Li et al. 2010 (LinUCB, disjoint); Agrawal & Goyal
2013 (linear Thompson sampling)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.inference.best_arm import probability_best
from bandits.posteriors import BayesianLinear, Gaussian, LinearStatistics
from bandits.reward import RewardModel
from bandits.statistics import Array

from .index import choose_leader, leaders, unit_scale
from .protocol import ContextualBelief, Remembering
from .registry import register


def inverse(matrices: Array) -> Array:
    """Of matrices (..., d, d)."""
    return np.asarray(np.linalg.inv(matrices), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Linear(Remembering):
    """What both share: ridge regression an arm, on rewards scaled to a range of one."""

    contextual: ClassVar[Literal[True]] = True
    model: ClassVar[Literal["linear", "logistic"]] = "linear"

    alpha: float = 1.0
    ridge: float = 1.0

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, 0.0, float("inf"))
        checks.number("ridge", self.ridge, 1e-9, float("inf"))

    def believe(self, learned: Any, reward: RewardModel) -> ContextualBelief:
        statistics: LinearStatistics = learned
        shift, scale = unit_scale(statistics.rewards.pooled(), reward)
        posterior = BayesianLinear.of(statistics.affine(shift, scale), self.ridge)
        return ContextualBelief(posterior.mean, inverse(posterior.precision))


@register
@dataclass(frozen=True, slots=True)
class LinUCB(Linear):
    """Play the greatest x'theta + alpha sqrt(x' A^-1 x)."""

    name: ClassVar[str] = "lin-ucb"
    summary: ClassVar[str] = "LinUCB: for each request the arm whose value could be highest, by its features."
    counts_own_pulls: ClassVar[bool] = True

    def propensities(self, mean: Array, deviation: Array) -> Array:
        return leaders(mean + self.alpha * deviation)

    def choose(self, mean: Array, deviation: Array, rng: np.random.Generator) -> NDArray[np.int64]:
        return choose_leader(mean + self.alpha * deviation, rng)


@register
@dataclass(frozen=True, slots=True)
class LinThompson(Linear):
    """Draw theta ~ N(theta^, alpha^2 A^-1) for each arm and play the greatest x'theta.

    Arms are drawn apart from each other, so the values x'theta are independent normals, and P(best
    | x) follows by quadrature. The default alpha of one half is the deviation that no reward in [0,
    1] exceeds.
    """

    name: ClassVar[str] = "lin-thompson"
    summary: ClassVar[str] = (
        "Linear Thompson sampling: an arm gets a request as likely as it is to be the best for its features."
    )
    counts_own_pulls: ClassVar[bool] = False

    alpha: float = 0.5

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, 1e-9, float("inf"))
        checks.number("ridge", self.ridge, 1e-9, float("inf"))

    def propensities(self, mean: Array, deviation: Array) -> Array:
        return probability_best(Gaussian(mean, self.alpha * deviation))

    def choose(self, mean: Array, deviation: Array, rng: np.random.Generator) -> NDArray[np.int64]:
        return choose_sampled(mean, self.alpha * deviation, rng)


def choose_sampled(mean: Array, deviation: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """The arm of the greatest draw, for each row."""
    chosen: NDArray[np.int64] = np.argmax(rng.normal(mean, deviation), axis=-1)
    return chosen
