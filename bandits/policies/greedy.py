"""The greedy family: the best mean so far, with some randomness. Source: Sutton & Barto 2018,
chapter 2; Cesa-Bianchi et al. 2017."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .index import draw, leaders, unit_means, with_first_pulls
from .protocol import Remembering
from .registry import register


@register
@dataclass(frozen=True, slots=True)
class EpsilonGreedy(Remembering):
    """The arm with the greatest mean, and with probability epsilon any; each arm once first."""

    name: ClassVar[str] = "epsilon-greedy"
    summary: ClassVar[str] = "Epsilon-greedy: the best mean so far, and now and then any arm."
    contextual: ClassVar[Literal[False]] = False
    counts_own_pulls: ClassVar[bool] = False

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        checks.number("epsilon", self.epsilon, 0.0, 1.0)

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        mean = unit_means(statistics, reward)
        greedy = leaders(with_first_pulls(statistics.count, lambda n, t: mean))
        shares: Array = self.epsilon / statistics.arms + (1.0 - self.epsilon) * greedy
        return shares

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        return draw(self.propensities(statistics, reward), rng)


@register
@dataclass(frozen=True, slots=True)
class Softmax(Remembering):
    """Probabilities in proportion to exp(m / temperature), means scaled to [0, 1]; each arm once
    first."""

    name: ClassVar[str] = "softmax"
    summary: ClassVar[str] = "Softmax: the better an arm's mean, the more traffic, by a fixed temperature."
    contextual: ClassVar[Literal[False]] = False
    counts_own_pulls: ClassVar[bool] = False

    temperature: float = 0.1

    def __post_init__(self) -> None:
        checks.number("temperature", self.temperature, 1e-6, float("inf"))

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        mean = unit_means(statistics, reward)
        logit = mean / self.temperature
        weights = np.exp(logit - logit.max(axis=-1, keepdims=True))
        warm = weights / weights.sum(axis=-1, keepdims=True)
        untried = statistics.count <= 0
        first = untried / np.maximum(untried.sum(axis=-1, keepdims=True), 1)
        return np.asarray(np.where(untried.any(axis=-1, keepdims=True), first, warm))

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        return draw(self.propensities(statistics, reward), rng)
