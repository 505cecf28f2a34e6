"""Thompson sampling with a logistic model an arm, for binary rewards. Source: Chapelle & Li 2011,
Algorithm 3."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.inference.best_arm import probability_best
from bandits.posteriors import BayesianLogistic, Gaussian
from bandits.reward import RewardModel
from bandits.statistics import Array

from .linear import choose_sampled, inverse
from .protocol import ContextualBelief, Remembering
from .registry import register


@register
@dataclass(frozen=True, slots=True)
class LogisticThompson(Remembering):
    """Draw each arm's coefficients from Laplace's Gaussian and play the greatest log-odds, which
    has the greatest probability too."""

    name: ClassVar[str] = "logistic-thompson"
    summary: ClassVar[str] = "Logistic Thompson sampling: as the linear one, for rewards of 0 and 1."
    contextual: ClassVar[Literal[True]] = True
    counts_own_pulls: ClassVar[bool] = False
    model: ClassVar[Literal["linear", "logistic"]] = "logistic"

    alpha: float = 1.0
    ridge: float = 1.0

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, 1e-9, float("inf"))
        checks.number("ridge", self.ridge, 1e-9, float("inf"))

    def believe(self, learned: Any, reward: RewardModel) -> ContextualBelief:
        """`learned` has `mean` (..., K, d) and `precision` (..., K, d, d), of outcomes turned so
        that 1 is good."""
        stacked: BayesianLogistic = learned
        return ContextualBelief(stacked.mean, inverse(stacked.precision))

    def propensities(self, mean: Array, deviation: Array) -> Array:
        return probability_best(Gaussian(mean, self.alpha * deviation))

    def choose(self, mean: Array, deviation: Array, rng: np.random.Generator) -> NDArray[np.int64]:
        return choose_sampled(mean, self.alpha * deviation, rng)
