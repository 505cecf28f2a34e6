"""Bayes-UCB: a high quantile of the posterior. Source: Kaufmann, Cappé & Garivier 2012."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandits.belief import believe
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .index import IndexPolicy
from .registry import register


@register
@dataclass(frozen=True, slots=True)
class BayesUCB(IndexPolicy):
    """Play the greatest quantile 1 - 1 / (t + 1) of the arms' posteriors."""

    name: ClassVar[str] = "bayes-ucb"
    summary: ClassVar[str] = "Bayes-UCB: the arm with the highest upper quantile of what is believed of it."

    def index(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        known = statistics if pulls is None else _as_if_known(statistics, pulls)
        t = known.count.sum(axis=-1, keepdims=True)
        index: Array = np.asarray(believe(known, reward).posterior.quantile(1.0 - 1.0 / (t + 1.0)))
        return index


def _as_if_known(statistics: ArmStatistics, pulls: Array) -> ArmStatistics:
    """Rewards that are out, as if each had come with its arm's mean: narrower, with the same mean
    and variance."""
    count = statistics.count + pulls
    pooled_count, pooled_mean, _ = statistics.pooled()
    middle = np.where(pooled_count > 0, pooled_mean, 0.5)
    mean = np.where(statistics.count > 0, statistics.mean, middle)
    return ArmStatistics(count, mean, statistics.variance * count)
