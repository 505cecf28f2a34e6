"""Is a proportion past a limit? Evidence that may be looked at all the time, from counts alone.

The average over alternatives p > limit of (p / m)^s ((1 - p) / (1 - m))^(n - s), m the limit. Under
"the proportion is at most m" its expectation is at most 1 at every n, so by Ville's inequality it
ever reaches 1 / alpha with probability at most alpha. It needs no state: the counts are sufficient.
The alternatives lie in steps of log-odds above the limit, so that twice the limit is as far from it
at 0.1 % as at 10 %; parts of the way to 1 were rejected: with a limit of 0.1 % the nearest was 1.1
%, and three times the limit was never shown. Source: Ramdas et al. 2023; the mixture is Robbins
1970.
"""

import math

import numpy as np
from scipy import optimize, special

from bandits import checks

from .betting import Wagers

STEPS = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4])
"""How far the alternatives lie above the limit, in log-odds."""


def proportion_wagers(successes: float, trials: float, limit: float) -> Wagers:
    """What one bet on each alternative against "the proportion is at most `limit`" has won; `limit`
    in (0, 1). Raises ValueError."""
    checks.number("limit", limit, 0.0, 1.0, open_low=True)
    if not 0.0 <= successes <= trials:
        raise ValueError(f"{successes:g} of {trials:g}: a part was expected")
    at = special.logit(limit) + STEPS
    gained = special.log_expit(at) - math.log(limit)
    lost = special.log_expit(-at) - math.log1p(-limit) if limit < 1.0 else np.zeros_like(at)
    return Wagers(successes * gained + (trials - successes) * lost)


def proportion_evidence(successes: float, trials: float, limit: float) -> float:
    """Evidence that a proportion is more than `limit`; infinite where a limit of 0 was passed once.
    Raises ValueError."""
    checks.number("limit", limit, 0.0, 1.0)
    if not 0.0 <= successes <= trials:
        raise ValueError(f"{successes:g} of {trials:g}: a part was expected")
    if limit <= 0.0:
        return math.inf if successes > 0 else 1.0
    return 1.0 if limit >= 1.0 else proportion_wagers(successes, trials, limit).evidence


def highest_proportion(successes: float, trials: float, alpha: float) -> float:
    """What a proportion is shown to be at most, at every count at once with probability 1 - alpha;
    1 where nothing was seen.

    The upper end of {p : mixture likelihood ratio < 1 / alpha}, the mixture Beta(1/2, 1/2) (Robbins
    1970).
    """
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    if not 0.0 <= successes <= trials:
        raise ValueError(f"{successes:g} of {trials:g}: a part was expected")
    failures = trials - successes
    marginal = special.betaln(successes + 0.5, failures + 0.5) - special.betaln(0.5, 0.5)

    def excess(p: float) -> float:
        return float(marginal - special.xlogy(successes, p) - special.xlog1py(failures, -p) + math.log(alpha))

    start = successes / trials if trials > 0 else 0.0
    top = 1.0 - 1e-12
    if start >= top or excess(top) < 0.0:
        return 1.0
    return float(optimize.brentq(excess, max(start, 1e-300), top, xtol=1e-15))
