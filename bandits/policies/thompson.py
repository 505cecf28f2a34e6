"""Thompson sampling: each arm with the probability that it is best. Source: Chapelle & Li 2011,
Algorithm 2; Honda & Takemura 2014."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.belief import believe
from bandits.inference.best_arm import probability_best, probability_cheapest
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .protocol import Remembering
from .registry import register


@register
@dataclass(frozen=True, slots=True)
class Thompson(Remembering):
    """Draw a mean for each arm from its posterior and play the greatest; the probability of that is
    P(best), by quadrature.

    With a `subsidy`, in reward units, and known costs: play the cheapest arm whose draw is within
    the subsidy of the greatest.
    """

    name: ClassVar[str] = "thompson"
    summary: ClassVar[str] = (
        "Thompson sampling: an arm gets as much traffic as it is likely to be the best. It earns most while it learns."
    )
    contextual: ClassVar[Literal[False]] = False
    counts_own_pulls: ClassVar[bool] = False

    subsidy: float = 0.0

    def __post_init__(self) -> None:
        checks.number("subsidy", self.subsidy, 0.0, float("inf"))

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        return probability_best(believe(statistics, reward).posterior)

    def cost_aware_propensities(self, statistics: ArmStatistics, reward: RewardModel, costs: Array) -> Array:
        belief = believe(statistics, reward)
        scale = float(np.abs(np.ravel(belief.scale)[0]))
        return probability_cheapest(belief.posterior, costs, self.subsidy / scale)

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        draws = believe(statistics, reward).posterior.sample(rng, statistics.count.shape)
        chosen: NDArray[np.int64] = np.argmax(draws, axis=-1)
        return chosen
