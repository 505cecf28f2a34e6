"""Is a mean past a limit? Evidence that may be looked at all the time, from counts alone.

For a proportion: the average over alternatives p > limit of (p / m)^s ((1 - p) / (1 - m))^(n - s), m the limit. Under "the proportion is at
most m" its expectation is at most 1 at every n, so by Ville's inequality it ever reaches 1 / alpha with probability at most alpha. It needs
no state: the counts are sufficient. Source: Ramdas et al. 2023; the mixture is Robbins 1970.
"""

import numpy as np

from bandits import checks
from bandits.statistics import ArmStatistics

from .confidence_sequence import mean_sequence

_ALTERNATIVES = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.99])
"""How far the alternatives lie from the limit, as parts of the way to 1."""


def proportion_evidence(successes: float, trials: float, limit: float) -> float:
    """Evidence that a proportion is more than `limit`; infinite where a limit of 0 was passed once. Raises ValueError."""
    checks.number("limit", limit, 0.0, 1.0)
    if not 0.0 <= successes <= trials:
        raise ValueError(f"{successes:g} of {trials:g}: a part was expected")
    if limit <= 0.0:
        return float("inf") if successes > 0 else 1.0
    if limit >= 1.0:
        return 1.0
    p = limit + (1.0 - limit) * _ALTERNATIVES
    logs = successes * np.log(p / limit) + (trials - successes) * (np.log1p(-p) - np.log1p(-limit))
    return float(np.exp(np.minimum(np.logaddexp.reduce(logs) - np.log(len(logs)), 700.0)))


def mean_bounds(count: float, mean: float, m2: float, alpha: float) -> tuple[float, float]:
    """(low, high) of a mean, valid at all counts at once in the limit of many; infinite below 30 values."""
    low, high = mean_sequence(ArmStatistics(np.array([count]), np.array([mean]), np.array([m2])), alpha)
    return float(low[0]), float(high[0])
