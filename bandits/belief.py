"""From sufficient statistics to posteriors: which family and which prior a kind of reward has, and
which way is better.

Everything is oriented so that larger is better: `minimize` is the exact mirror of `maximize`.
Binary rewards are flipped (1 - y), others negated. Priors: Beta(1, 1) (Chapelle & Li 2011); NIG(0,
1, 1, 1) on rewards standardised by the average of the arms' means and the deviation within arms
(Honda & Takemura 2014); for counts a Gamma of one observation's weight at the pooled mean, for a
fixed Gamma(1, 1) locks onto a wrong arm when rates are large.

Counts with more spread than Poisson's weigh less: their dispersion is estimated within arms, and an
observation counts 1 / dispersion (the quasi-Poisson model of McCullagh & Nelder 1989, section 6.2).
Without it Thompson sampling locks onto a wrong arm: with four arms of means 2.5 to 3.3, 3,000 pulls
and one count in thirty not 0, it gave the best arm under 5 % of the last pulls in 78 % of 150
simulated runs, and in 11 % with it. The normal family above a dispersion of 2 was tried beside it
and locked on in 45 %: there an arm that gave only zeros looks certain, here it has the spread of
the others. For counts that are Poisson's the regret is the same with and without.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .posteriors import BetaBernoulli, GammaPoisson, Mirrored, NormalInverseGamma, Posterior
from .reward import RewardModel
from .statistics import ArmStatistics, Array


@dataclass(frozen=True, slots=True)
class Belief:
    """The arms' posteriors on the policy's own scale, larger is better; a value x there is `shift +
    scale * x` in reward units.

    `posterior` has parameters of shape (..., K); `scale` is negative where smaller rewards are
    better.
    """

    posterior: Posterior
    shift: Any
    scale: Any

    def interval(self, alpha: float) -> tuple[Array, Array]:
        """Equal-tailed credible interval of each arm's mean, in reward units: (low, high), each
        (..., K)."""
        ends = [
            self.shift + self.scale * np.asarray(self.posterior.quantile(q)) for q in (alpha / 2.0, 1.0 - alpha / 2.0)
        ]
        return np.minimum(*ends), np.maximum(*ends)

    def in_reward_units(self, difference: Array) -> Array:
        """A difference of means on the policy's scale as a positive amount in reward units."""
        amount: Array = difference * np.abs(self.scale)
        return amount


def dispersion(statistics: ArmStatistics) -> Array:
    """Variance of counts over their mean, within arms, (..., 1); 1 for Poisson's, and never less.

    Pearson's estimate, pooled over arms, with one imagined degree of freedom of dispersion 1: what
    is not known yet passes for Poisson.
    """
    freedom = np.maximum(statistics.count - 1.0, 0.0)
    known = (statistics.mean > 0) & (freedom > 0)
    ratios = np.divide(statistics.m2, statistics.mean, out=np.zeros_like(statistics.m2), where=known)
    total = ratios.sum(axis=-1, keepdims=True) + 1.0
    found: Array = np.maximum(total / (np.where(known, freedom, 0.0).sum(axis=-1, keepdims=True) + 1.0), 1.0)
    return found


def believe(statistics: ArmStatistics, reward: RewardModel) -> Belief:
    """The posteriors of all arms, given their statistics (..., K)."""
    sign = -1.0 if reward.direction == "minimize" else 1.0
    if reward.kind == "binary":
        successes = statistics.total
        failures = statistics.count - successes
        if sign < 0:
            return Belief(BetaBernoulli(1.0 + failures, 1.0 + successes), 1.0, -1.0)
        return Belief(BetaBernoulli(1.0 + successes, 1.0 + failures), 0.0, 1.0)
    count, mean, _ = statistics.pooled()
    if reward.kind == "count":
        level = np.where(mean > 0, mean, 1.0)
        spread = dispersion(statistics)
        gamma = GammaPoisson(1.0, 1.0 / level).update(statistics.total / spread, statistics.count / spread)
        return Belief(Mirrored(gamma), 0.0, -1.0) if sign < 0 else Belief(gamma, 0.0, 1.0)
    # Centred between the arms' means, not at the mean of all rewards, which nearly is the leader's:
    # a new arm's prior would sit on the leader's mean, and regret grow (70.6 against 64.1 on means
    # 1, .5, 0, 0, 0). Scaled by the deviation within arms.
    seen = statistics.count > 0
    arms = np.maximum(seen.sum(axis=-1, keepdims=True), 1)
    centre = np.where(seen, statistics.mean, 0.0).sum(axis=-1, keepdims=True) / arms
    within = statistics.m2.sum(axis=-1, keepdims=True)
    deviation = np.sqrt(within / np.where(count > arms, count - arms, 1.0))
    # What is left of rewards that are all alike is rounding: taken for spread, it would tell equal
    # arms apart for certain.
    rounding = 1e-13 * np.max(np.abs(np.where(seen, statistics.mean, 0.0)), axis=-1, keepdims=True)
    deviation = np.where(deviation > rounding, deviation, 1.0)
    standard = statistics.affine(centre, sign * deviation)
    posterior = NormalInverseGamma().update(standard.count, standard.mean, standard.m2)
    return Belief(posterior, centre, sign * deviation)
