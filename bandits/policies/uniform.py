"""Every arm alike: the policy of an even split, and the baseline of every comparison."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .protocol import Remembering
from .registry import register


@register
@dataclass(frozen=True, slots=True)
class Uniform(Remembering):
    """Probability 1/K for each of K arms."""

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = (
        "Uniform: every arm gets the same share. It earns no more while it learns, and decides soonest."
    )
    contextual: ClassVar[Literal[False]] = False
    counts_own_pulls: ClassVar[bool] = False

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        return np.full(statistics.count.shape, 1.0 / statistics.arms)

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        return rng.integers(statistics.arms, size=statistics.count.shape[:-1])
