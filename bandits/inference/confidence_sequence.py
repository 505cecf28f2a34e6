"""Intervals that may be watched: valid at every moment at once, so that looking often, and stopping when one likes, costs nothing.

Sources: Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (normal-mixture
boundaries); Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2022, "Time-uniform central limit theory" (their use for means of
unknown variance, and for doubly robust scores).
"""

import numpy as np
from scipy import optimize, special

from bandits import checks
from bandits.statistics import ArmStatistics, Array

from .anytime import Estimate, Evidence

_FEWEST = 30


def best_rho(variance: float, alpha: float) -> float:
    """The mixture's parameter for which the two-sided boundary is tightest at this intrinsic time."""
    log = -2.0 * np.log(alpha)
    return float(variance / (log + np.log1p(log)))


def two_sided_boundary(v: float | Array, alpha: float = 0.05, tightest_at: float = 100.0) -> Array:
    """What |S| stays below at all intrinsic times `v` with probability 1 - alpha, for sums S with variance v."""
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    rho = best_rho(tightest_at, alpha)
    v = np.asarray(v, dtype=np.float64)
    return np.sqrt((v + rho) * np.log((v + rho) / (rho * alpha**2)))


def one_sided_boundary(v: float, alpha: float = 0.05, tightest_at: float = 100.0) -> float:
    """What S stays below at all intrinsic times with probability 1 - alpha: half of the mixture, so it is solved for."""
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
    """(low, high) of the mean of each of K streams (K,), valid at all counts at once, in the limit of many; infinite below 30.

    The variance is the stream's own; `tightest_at` is the count at which the interval is narrowest.
    """
    count, mean = statistics.count, statistics.mean
    # An arm whose outcomes never varied yet: half an outcome of the other kind keeps its interval from vanishing.
    deviation = np.sqrt(np.maximum(statistics.variance, 0.25 / np.maximum(count, 1.0)))
    width = np.where(
        count >= _FEWEST, deviation * two_sided_boundary(count, alpha, tightest_at) / np.maximum(count, 1.0), np.inf
    )
    return mean - width, mean + width


def watched_aipw(evidence: Evidence, alpha: float = 0.05) -> list[Estimate | None]:
    """As `anytime.aipw`, with intervals that hold at every moment at once; None for an arm with fewer than 30 matured outcomes."""
    low, high = mean_sequence(evidence.scores, alpha)
    found: list[Estimate | None] = []
    scores = evidence.scores
    for i, seen in enumerate(evidence.matured.count):
        if seen < _FEWEST:
            found.append(None)
            continue
        error = float(np.sqrt(scores.variance[i] / scores.count[i]))
        found.append(Estimate(float(scores.mean[i]), error, max(float(low[i]), 0.0), min(float(high[i]), 1.0)))
    return found
