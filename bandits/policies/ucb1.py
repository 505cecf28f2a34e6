"""UCB1 and UCB-tuned: the mean plus a confidence radius. Source: Auer, Cesa-Bianchi & Fischer
2002."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .index import IndexPolicy, counted, unit_means, unit_variances, with_first_pulls
from .registry import register


@register
@dataclass(frozen=True, slots=True)
class UCB1(IndexPolicy):
    """Play the greatest m + sqrt(2 ln t / n); each arm once first. Rewards are scaled to [0, 1]."""

    name: ClassVar[str] = "ucb1"
    summary: ClassVar[str] = "UCB1: the arm whose mean could still be highest gets the traffic, by a cautious margin."

    def index(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        mean = unit_means(statistics, reward)
        return with_first_pulls(counted(statistics, pulls), lambda n, t: mean + np.sqrt(2.0 * np.log(t) / n))


@register
@dataclass(frozen=True, slots=True)
class UCBTuned(IndexPolicy):
    """Play the greatest m + sqrt(ln t / n * min(1/4, v + sqrt(2 ln t / n))), v the arm's variance;
    each arm once first."""

    name: ClassVar[str] = "ucb-tuned"
    summary: ClassVar[str] = "UCB-tuned: as UCB1, with margins that follow how much each arm's rewards vary."

    def index(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        mean = unit_means(statistics, reward)
        variance = mean * (1.0 - mean) if reward.kind == "binary" else unit_variances(statistics, reward)

        def radius(n: Array, t: Array) -> Array:
            over = np.log(t) / n
            index: Array = mean + np.sqrt(over * np.minimum(0.25, variance + np.sqrt(2.0 * over)))
            return index

        return with_first_pulls(counted(statistics, pulls), radius)
