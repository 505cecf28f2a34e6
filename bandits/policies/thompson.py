"""Thompson sampling: each arm with the probability that it is best. Source: Chapelle & Li 2011, Algorithm 2; Honda & Takemura 2014."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bandits.belief import believe
from bandits.inference.best_arm import probability_best
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array


@dataclass(frozen=True, slots=True)
class Thompson:
    """Draw a mean for each arm from its posterior and play the greatest; the probability of that is P(best), by quadrature."""

    name: ClassVar[str] = "thompson"
    counts_own_pulls: ClassVar[bool] = False

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        return probability_best(believe(statistics, reward).posterior)

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        draws = believe(statistics, reward).posterior.sample(rng, statistics.count.shape)
        chosen: NDArray[np.int64] = np.argmax(draws, axis=-1)
        return chosen
