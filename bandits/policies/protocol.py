"""What a policy is: from what was learned to the probability of each arm. One file a family, one
line a file.

Two kinds, told apart by `contextual`. A `Policy` learns each arm's mean; its probabilities are the
same for every request until something new is learned. A `ContextualPolicy` learns a model an arm,
and its probabilities follow from the request's features.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bandits.memory import EVERYTHING, Memory
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array


@dataclass(frozen=True, slots=True)
class Remembering:
    """What every policy has: how much of the past counts. The statistics that a policy is given are
    what its memory left."""

    memory: Memory = field(default=EVERYTHING, kw_only=True)


class Policy(Protocol):
    """A way to choose. Policies are stateless: what they know is in the statistics that they are
    given."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """A sentence for people who choose."""
    contextual: ClassVar[Literal[False]]
    counts_own_pulls: ClassVar[bool]
    """True for deterministic policies, which must be told of pulls whose rewards are still out
    (`pulls`)."""

    @property
    def memory(self) -> Memory: ...

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        """The probability of each arm, (..., K), before floor and burn-in, for statistics of shape
        (..., K); each row sums to 1."""

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        """An arm for each of the leading axes of statistics (..., K), drawn with those
        probabilities; for simulation."""


@runtime_checkable
class CostAware(Protocol):
    """A policy that can prefer cheaper arms."""

    @property
    def subsidy(self) -> float:
        """How much value, in reward units, may be given up for a cheaper arm."""

    def cost_aware_propensities(self, statistics: ArmStatistics, reward: RewardModel, costs: Array) -> Array:
        """The probability of each arm, (K,), given what each costs, (K,)."""


@dataclass(frozen=True, slots=True)
class ContextualBelief:
    """Each arm's Gaussian over its coefficients: `mean` (..., K, d), `covariance` (..., K, d, d).
    Larger values are better."""

    mean: Array
    covariance: Array

    def values(self, x: Array) -> tuple[Array, Array]:
        """(mean, standard deviation) of every arm's value, (..., K), for the features `x` (..., d)
        of a request.

        Leading axes of `x` and of the belief broadcast: one belief and many requests, or a belief a
        request.
        """
        mean = np.einsum("...kd,...d->...k", self.mean, x)
        variance = np.einsum("...d,...kde,...e->...k", x, self.covariance, x, optimize=True)
        return mean, np.sqrt(np.maximum(variance, 1e-18))

    def after_pull(self, arm: int | NDArray[np.int64], x: Array) -> "ContextualBelief":
        """The belief (..., K, d) when `arm` (...) was pulled for `x` (..., d) and its reward is
        still out: narrower, with the same mean.

        One row's inverse from the last one's (Sherman & Morrison 1950).
        """
        covariance = self.covariance.copy()
        here = (*np.indices(np.shape(arm)), arm)
        spread = np.einsum("...de,...e->...d", covariance[here], x)
        narrower = 1.0 + np.einsum("...d,...d->...", x, spread)
        covariance[here] -= spread[..., :, None] * spread[..., None, :] / narrower[..., None, None]
        return ContextualBelief(self.mean, covariance)

    def after_pulls(self, gram: Array) -> "ContextualBelief":
        """The belief when pulls are out whose features' x x' sum to `gram` (..., K, d, d):
        narrower, with the same mean."""
        if not gram.any():
            return self
        covariance = np.linalg.inv(np.linalg.inv(self.covariance) + gram)
        return ContextualBelief(self.mean, np.asarray(covariance, dtype=np.float64))


class ContextualPolicy(Protocol):
    """A way to choose by the features of a request."""

    name: ClassVar[str]
    summary: ClassVar[str]
    contextual: ClassVar[Literal[True]]
    counts_own_pulls: ClassVar[bool]
    model: ClassVar[Literal["linear", "logistic"]]
    """Which family `believe` takes: posteriors.LinearStatistics of K arms, or K
    posteriors.BayesianLogistic, stacked."""

    @property
    def memory(self) -> Memory: ...

    @property
    def ridge(self) -> float:
        """Precision of the prior on every coefficient."""

    def believe(self, learned: Any, reward: RewardModel) -> ContextualBelief:
        """What is believed of each arm, given what was learned."""

    def propensities(self, mean: Array, deviation: Array) -> Array:
        """The probability of each arm, (n, K), for n requests whose values are believed to be so;
        each row sums to 1."""

    def choose(self, mean: Array, deviation: Array, rng: np.random.Generator) -> NDArray[np.int64]:
        """An arm for each of n requests, drawn with those probabilities; for simulation."""
