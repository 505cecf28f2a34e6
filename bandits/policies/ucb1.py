"""UCB1: the mean plus a confidence radius. Source: Auer, Cesa-Bianchi & Fischer 2002."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .index import choose_leader, leaders, unit_means, with_first_pulls


@dataclass(frozen=True, slots=True)
class UCB1:
    """Play the greatest m + sqrt(2 ln t / n); each arm once first. Rewards are scaled to [0, 1]."""

    name: ClassVar[str] = "ucb1"
    counts_own_pulls: ClassVar[bool] = True

    def index(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        """The index of each arm, (..., K). `pulls` counts pulls whose rewards are out: they narrow the radius, not the mean."""
        count = statistics.count if pulls is None else statistics.count + pulls
        mean = unit_means(statistics, reward)
        return with_first_pulls(count, lambda n, t: mean + np.sqrt(2.0 * np.log(t) / n))

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        return leaders(self.index(statistics, reward, pulls))

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        return choose_leader(self.index(statistics, reward, pulls), rng)
