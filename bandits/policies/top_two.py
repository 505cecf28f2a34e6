"""Top-two Thompson sampling: for deciding which arm is best, and soon. Source: Russo 2016, "Simple
Bayesian algorithms for best arm identification"."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.belief import believe
from bandits.inference.best_arm import probability_best
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .protocol import Remembering
from .registry import register

_DRAWS = 100


def top_two(best: Array, beta: float) -> Array:
    """psi_i = a_i (beta + (1 - beta) sum over j != i of a_j / (1 - a_j)), a = P(best), (..., K).

    1 - a_j is summed from the others, for beside a near 1 the difference would cancel. Where the
    others' probabilities vanish altogether, no draw would ever tell them apart: they share evenly.
    """
    arms = best.shape[-1]
    if arms == 1:
        return np.ones_like(best)
    different = 1.0 - np.eye(arms)
    others = best @ different  # (..., j)
    safe = np.where(others > 0.0, others, 1.0)
    # second[..., j, i]: the probability that i leads when j does not.
    second = np.where(others[..., None] > 0.0, best[..., None, :] / safe[..., None], 1.0 / (arms - 1)) * different
    psi = beta * best + (1.0 - beta) * np.einsum("...j,...ji->...i", best, second)
    return np.asarray(psi / psi.sum(axis=-1, keepdims=True))


@register
@dataclass(frozen=True, slots=True)
class TopTwoThompson(Remembering):
    """Play the leader of a draw with probability beta, else draw again until another leads, and
    play that one."""

    name: ClassVar[str] = "top-two-thompson"
    summary: ClassVar[str] = (
        "Top-two Thompson sampling: traffic goes to the leader and its closest rivals. It decides soon, and earns less."
    )
    contextual: ClassVar[Literal[False]] = False
    counts_own_pulls: ClassVar[bool] = False

    beta: float = 0.5

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, 0.0, 1.0, open_low=True)

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        return top_two(probability_best(believe(statistics, reward).posterior), self.beta)

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        """After a hundred draws with the same leader, the runner-up of the last one."""
        posterior = believe(statistics, reward).posterior
        shape = statistics.count.shape
        draws = posterior.sample(rng, shape)
        leader: NDArray[np.int64] = np.argmax(draws, axis=-1)
        chosen = leader.copy()
        open_ = rng.random(shape[:-1]) >= self.beta
        for _ in range(_DRAWS):
            if not open_.any() or shape[-1] == 1:
                return chosen
            draws = posterior.sample(rng, shape)
            again = np.argmax(draws, axis=-1)
            found = open_ & (again != leader)
            chosen = np.where(found, again, chosen)
            open_ &= ~found
        second = np.argsort(draws, axis=-1)[..., -2]
        return np.where(open_, second, chosen)
