"""Thompson sampling: each arm with the probability that it is best. Source: Chapelle & Li 2011, Algorithm 2; Honda & Takemura 2014."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.belief import believe
from bandits.inference.best_arm import probabilities_best, probabilities_cheapest, probability_best
from bandits.posteriors import Mirrored
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .protocol import Remembering


@dataclass(frozen=True, slots=True)
class Thompson(Remembering):
    """Draw a mean for each arm from its posterior and play the greatest; the probability of that is P(best), by quadrature.

    With a `subsidy`, in reward units, and known costs: play the cheapest arm whose draw is within the subsidy of the greatest.
    """

    name: ClassVar[str] = "thompson"
    contextual: ClassVar[Literal[False]] = False
    counts_own_pulls: ClassVar[bool] = False

    subsidy: float = 0.0

    def __post_init__(self) -> None:
        checks.number("subsidy", self.subsidy, 0.0, float("inf"))

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        posterior = believe(statistics, reward).posterior
        return probability_best(posterior) if statistics.count.ndim == 1 else probabilities_best(posterior)

    def cost_aware_propensities(self, statistics: ArmStatistics, reward: RewardModel, costs: Array) -> Array:
        belief = believe(statistics, reward)
        scale = float(np.abs(np.ravel(belief.scale)[0]))
        found: Array = probabilities_cheapest(_as_row(belief.posterior), costs, self.subsidy / scale)[0]
        return found

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        draws = believe(statistics, reward).posterior.sample(rng, statistics.count.shape)
        chosen: NDArray[np.int64] = np.argmax(draws, axis=-1)
        return chosen


def _as_row(posterior: Any) -> Any:
    """The same posteriors with parameters (1, K)."""
    if isinstance(posterior, Mirrored):
        return Mirrored(_as_row(posterior.posterior))
    return type(posterior)(*(np.atleast_2d(getattr(posterior, field.name)) for field in fields(posterior)))
