"""Intervals of what each arm earned on the requests that it served, from its own outcomes: count,
mean and squared deviations.

An arm's outcomes are a martingale around the means of the requests that it served, under any
allocation that looks only back, so no propensity enters. Where means drift, or depend on the
request, the interval is of their average over what the arm served.

Rejected: augmented inverse-propensity scores (Hadad et al. 2021) with uniform weights. A starved
arm with rare rewards has few successes, whatever their weights, and a normal limit of few large
weights covers too little: 54 to 89 % of runs where 95 % are claimed, and a confidence sequence on
them is missed at some moment in up to 59 %.

Sources: Brown, Cai & DasGupta 2001 (Jeffreys); Rubin 1981 (Bayesian bootstrap); Robbins 1970
(mixtures); Waudby-Smith & Ramdas 2024 (bounded means); Zou & Donner 2008 (differences from the ends
of single intervals).
"""

import numpy as np
from scipy import special

from bandits import checks
from bandits.belief import believe
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .confidence_sequence import mean_sequence, mixture_sequence


def interval(statistics: ArmStatistics, reward: RewardModel, alpha: float = 0.05) -> tuple[Array, Array]:
    """(low, high) of each arm's mean at one moment, each (..., K), in reward units; what is
    possible at all where nothing was seen.

    Jeffreys' where the reward has bounds, the posterior's where it has none. Raises ValueError for
    an alpha outside (0, 1).
    """
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    bounds = reward.bounds
    if bounds is not None:
        return bounded_interval(statistics, bounds, alpha)
    low, high = believe(_as_spread(statistics) if reward.kind == "count" else statistics, reward).interval(alpha)
    seen = statistics.count > 0
    least = 0.0 if reward.kind == "count" else -np.inf
    return np.where(seen, low, least), np.where(seen, high, np.inf)


def _as_spread(counts: ArmStatistics) -> ArmStatistics:
    """Counts that vary more than Poisson's are worth fewer of Poisson's: so many as give the mean
    the variance that was seen."""
    variance = counts.variance
    share = np.where(variance > counts.mean, counts.mean / np.where(variance > 0, variance, 1.0), 1.0)
    return ArmStatistics(counts.count * share, counts.mean, counts.m2 * share)


def watched_interval(statistics: ArmStatistics, reward: RewardModel, alpha: float = 0.05) -> tuple[Array, Array]:
    """As `interval`, right at every moment at once: however often it is looked at, it is ever wrong
    with probability `alpha`.

    With bounds a mixture's, which holds at every count; without bounds a normal mixture's, in the
    limit of many and infinite below 30.
    """
    bounds = reward.bounds
    if bounds is None:
        return mean_sequence(statistics, alpha)
    least, most = bounds
    scaled = statistics.affine(least, most - least)
    low, high = mixture_sequence(scaled.count, scaled.total, alpha)
    return least + low * (most - least), least + high * (most - least)


def bounded_interval(
    statistics: ArmStatistics, bounds: tuple[float, float], alpha: float = 0.05
) -> tuple[Array, Array]:
    """Jeffreys' interval, Beta(S + 1/2, n - S + 1/2), carried over to outcomes anywhere within
    `bounds`.

    Half an outcome at each bound is added to what was seen, and the mean gets the Beta distribution
    that has the mean and the variance of the Bayesian bootstrap of that: for outcomes of 0 and 1
    exactly Jeffreys', for others as narrow as their spread allows, and wide as long as a rare
    outcome near a bound may be unseen. Where bounds are far beyond what was seen, half an outcome
    there says too much about the near end: that end is Jeffreys' for the two-point distribution
    with the mean and variance that were seen. Where one outcome or none differs from a bound the
    ends are those of the modified interval (Brown, Cai & DasGupta 2001): the bound, and the exact
    end.
    """
    least, most = bounds
    span = most - least
    count = statistics.count
    seen = count > 0
    n = np.where(seen, count, 1.0)
    mean = np.clip((statistics.mean - least) / span, 0.0, 1.0)
    # No outcomes within [0, 1] vary more; rounding may say so.
    spread = np.clip(statistics.variance / span**2, 0.0, mean * (1.0 - mean))
    middle = (n * mean + 0.5) / (n + 1.0)
    # With the half outcomes at 0 and 1; written without differences of squares, which cancel near
    # the bounds.
    variance = (n * spread + n * np.square(mean - middle) + 0.5 * np.square(middle) + 0.5 * np.square(1.0 - middle)) / (
        n + 1.0
    )
    weight = middle * (1.0 - middle) * (n + 2.0) / variance - 1.0
    a, b = middle * weight, (1.0 - middle) * weight
    low = np.minimum(special.betaincinv(a, b, alpha / 2.0), _near_end(n, mean, spread, alpha))
    high = np.maximum(special.betainccinv(a, b, alpha / 2.0), 1.0 - _near_end(n, 1.0 - mean, spread, alpha))
    # Nothing but the bound itself was seen: the far end is the exact one, (alpha / 2)^(1 / n),
    # which Jeffreys' is short of.
    exact = np.power(alpha / 2.0, 1.0 / n)
    low = np.where(mean < 1.0, np.minimum(low, mean), np.minimum(low, exact))
    high = np.where(mean > 0.0, np.maximum(high, mean), np.maximum(high, 1.0 - exact))
    low, high = np.where(seen, low, 0.0), np.where(seen, high, 1.0)
    return least + low * span, least + high * span


def _near_end(n: Array, mean: Array, variance: Array, alpha: float) -> Array:
    """The lower end for outcomes of 0 and of one size, chosen so that they have this mean and
    variance; 0 where not more than one was."""
    safe = np.where(mean > 0.0, mean, 1.0)
    size = np.clip(variance / safe + mean, 1e-300, 1.0)
    successes = np.minimum(n * mean / size, n)
    end: Array = size * special.betaincinv(successes + 0.5, n - successes + 0.5, alpha / 2.0)
    return np.where(successes > 1.0 + 1e-9, end, 0.0)


def combined(value: float, weight: Array, mean: Array, low: Array, high: Array) -> tuple[float, float]:
    """The interval of `value` = sum of weight_i mean_i from the intervals of the means, all (K,),
    which are independent of each other.

    Each end is as far as the square root of the summed squares of what the single ends allow, so
    skewed intervals give a skewed one (Zou & Donner 2008).
    """
    down = np.where(weight > 0, mean - low, high - mean)
    up = np.where(weight > 0, high - mean, mean - low)
    # A weight of 0 lets an end of infinity be.
    used = weight != 0
    below = np.sqrt(np.square(weight[used] * down[used]).sum())
    above = np.sqrt(np.square(weight[used] * up[used]).sum())
    return float(value - below), float(value + above)
