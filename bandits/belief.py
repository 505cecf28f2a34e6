"""From sufficient statistics to posteriors: which family and which prior a kind of reward has, and which way is better.

Everything is oriented so that larger is better: `minimize` is the exact mirror of `maximize`. Binary rewards are flipped (1 - y), others
negated. Priors: Beta(1, 1) (Chapelle & Li 2011); NIG(0, 1, 1, 1) on rewards standardised by the pooled mean and deviation of all
arms (Honda & Takemura 2014); for counts a Gamma of one observation's weight at the pooled mean, for a fixed Gamma(1, 1) locks
onto a wrong arm when rates are large.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .posteriors import BetaBernoulli, GammaPoisson, NormalInverseGamma, Posterior
from .reward import RewardModel
from .statistics import ArmStatistics, Array


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The distribution of -X for a posterior of X."""

    posterior: Posterior

    @property
    def mean(self) -> Any:
        return -self.posterior.mean

    def pdf(self, x: Any) -> Any:
        return self.posterior.pdf(-np.asarray(x))

    def cdf(self, x: Any) -> Any:
        return 1.0 - self.posterior.cdf(-np.asarray(x))

    def quantile(self, q: Any) -> Any:
        return -self.posterior.quantile(1.0 - np.asarray(q))

    def sample(self, rng: np.random.Generator, size: Any = None) -> Any:
        return -self.posterior.sample(rng, size)


@dataclass(frozen=True, slots=True)
class Belief:
    """The arms' posteriors on the policy's own scale, larger is better; a value x there is `shift + scale * x` in reward units.

    `posterior` has parameters of shape (..., K); `scale` is negative where smaller rewards are better.
    """

    posterior: Posterior
    shift: Any
    scale: Any

    def interval(self, alpha: float) -> tuple[Array, Array]:
        """Equal-tailed credible interval of each arm's mean, in reward units: (low, high), each (..., K)."""
        ends = [
            self.shift + self.scale * np.asarray(self.posterior.quantile(q)) for q in (alpha / 2.0, 1.0 - alpha / 2.0)
        ]
        return np.minimum(*ends), np.maximum(*ends)

    def in_reward_units(self, difference: Array) -> Array:
        """A difference of means on the policy's scale as a positive amount in reward units."""
        amount: Array = difference * np.abs(self.scale)
        return amount


def believe(statistics: ArmStatistics, reward: RewardModel) -> Belief:
    """The posteriors of all arms, given their statistics (..., K)."""
    sign = -1.0 if reward.direction == "minimize" else 1.0
    if reward.kind == "binary":
        successes = statistics.total
        failures = statistics.count - successes
        if sign < 0:
            return Belief(BetaBernoulli(1.0 + failures, 1.0 + successes), 1.0, -1.0)
        return Belief(BetaBernoulli(1.0 + successes, 1.0 + failures), 0.0, 1.0)
    count, mean, m2 = statistics.pooled()
    if reward.kind == "count":
        level = np.where(mean > 0, mean, 1.0)
        gamma = GammaPoisson(1.0, 1.0 / level).update(statistics.total, statistics.count)
        return Belief(Mirrored(gamma), 0.0, -1.0) if sign < 0 else Belief(gamma, 0.0, 1.0)
    deviation = np.sqrt(m2 / np.where(count > 0, count, 1.0))
    deviation = np.where(deviation > 0, deviation, 1.0)
    standard = statistics.affine(mean, sign * deviation)
    posterior = NormalInverseGamma().update(standard.count, standard.mean, standard.m2)
    return Belief(posterior, mean, sign * deviation)
