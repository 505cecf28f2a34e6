"""What a policy is: from statistics to the probability of each arm. One file a family, one registry line a policy."""

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array


class Policy(Protocol):
    """A way to choose. Policies are stateless: what they know is in the statistics that they are given."""

    name: ClassVar[str]
    counts_own_pulls: ClassVar[bool]
    """True for deterministic policies, which must be told of pulls whose rewards are still out (`pulls`)."""

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        """The probability of each arm, (K,), before floor and burn-in, for statistics of shape (K,); sums to 1."""

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        """An arm for each of the leading axes of statistics (..., K), drawn with those probabilities; for simulation."""
