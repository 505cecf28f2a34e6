"""Intervals that may be watched: valid at every moment at once, so that looking often, and stopping
when one likes, costs nothing.

Sources: Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic
confidence sequences" (normal-mixture boundaries); Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas
2022, "Time-uniform central limit theory" (their use for means of unknown variance); Robbins 1970
(mixtures of likelihoods, for outcomes within bounds).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from bandits import checks
from bandits.statistics import ArmStatistics, Array

_FEWEST = 30
_HALVINGS = 60


def best_rho(variance: float, alpha: float) -> float:
    """The mixture's parameter for which the two-sided boundary is tightest at this intrinsic
    time."""
    log = -2.0 * np.log(alpha)
    return float(variance / (log + np.log1p(log)))


def two_sided_boundary(v: float | Array, alpha: float = 0.05, tightest_at: float = 100.0) -> Array:
    """What |S| stays below at all intrinsic times `v` with probability 1 - alpha, for sums S with
    variance v."""
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    rho = best_rho(tightest_at, alpha)
    v = np.asarray(v, dtype=np.float64)
    return np.sqrt((v + rho) * np.log((v + rho) / (rho * alpha**2)))


def one_sided_boundary(v: float, alpha: float = 0.05, tightest_at: float = 100.0) -> float:
    """What S stays below at all intrinsic times with probability 1 - alpha: half of the mixture, so
    it is solved for."""
    checks.number("alpha", alpha, 0.0, 0.5, open_low=True)
    rho = best_rho(tightest_at, 2.0 * alpha)

    def excess(s: float) -> float:
        log_mixture = (
            0.5 * np.log(4.0 * rho / (v + rho)) + s**2 / (2.0 * (v + rho)) + special.log_ndtr(s / np.sqrt(v + rho))
        )
        return float(log_mixture + np.log(alpha))

    high = float(two_sided_boundary(v, alpha, tightest_at)) + 1.0
    while excess(high) < 0.0:
        high *= 2.0
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-12))


def mean_sequence(statistics: ArmStatistics, alpha: float = 0.05, tightest_at: float = 1000.0) -> tuple[Array, Array]:
    """(low, high) of the mean of each of K streams (K,), valid at all counts at once, in the limit
    of many; infinite below 30.

    The variance is the stream's own; `tightest_at` is the count at which the interval is narrowest.
    """
    count, mean = statistics.count, statistics.mean
    # An arm whose outcomes never varied yet: half an outcome of the other kind keeps its interval
    # from vanishing.
    deviation = np.sqrt(np.maximum(statistics.variance, 0.25 / np.maximum(count, 1.0)))
    width = np.where(
        count >= _FEWEST, deviation * two_sided_boundary(count, alpha, tightest_at) / np.maximum(count, 1.0), np.inf
    )
    return mean - width, mean + width


def mixture_sequence(count: Array, total: Array, alpha: float = 0.05) -> tuple[Array, Array]:
    """(low, high) of means of outcomes in [0, 1], valid at all counts at once: the means whose
    likelihood ratio is below 1 / alpha.

    The ratio is that of a Beta(1/2, 1/2) mixture to the mean, B(S + 1/2, n - S + 1/2) / B(1/2, 1/2)
    / (m^S (1 - m)^(n - S)), a martingale for outcomes of 0 and 1 (Robbins 1970). For others in [0,
    1] it is below one: (q / m)^y ((1 - q) / (1 - m))^(1 - y) is at most y q / m + (1 - y) (1 - q) /
    (1 - m), whose expectation is 1 (inequality of means). `count` and `total` have one shape.
    """
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    n = np.asarray(count, dtype=np.float64)
    ones = np.clip(np.asarray(total, dtype=np.float64), 0.0, n)
    zeros = n - ones
    needed = special.betaln(ones + 0.5, zeros + 0.5) - special.betaln(0.5, 0.5) + np.log(alpha)
    mean = np.where(n > 0, ones / np.where(n > 0, n, 1.0), 0.5)

    def inside(m: Array) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = special.xlogy(ones, m) + special.xlog1py(zeros, -m) > needed
        return found

    low, high = _edge(inside, mean, np.zeros_like(mean)), _edge(inside, mean, np.ones_like(mean))
    return np.where(ones > 0, low, 0.0), np.where(zeros > 0, high, 1.0)


def _edge(inside: Callable[[Array], NDArray[np.bool_]], within: Array, beyond: Array) -> Array:
    """Where `inside` ends between a point within and one beyond, by bisection; on the outer side,
    so that nothing inside is lost."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (within + beyond)
        is_inside = inside(middle)
        within, beyond = np.where(is_inside, middle, within), np.where(is_inside, beyond, middle)
    return beyond
