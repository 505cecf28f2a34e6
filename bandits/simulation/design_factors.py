"""Log factors of the design-based rule for many experiments side by side: what `DesignEvidence`
gives one experiment's bucket."""

import numpy as np
from numpy.typing import NDArray

from bandits.inference.design import alternatives, log_factor
from bandits.inference.log_factors import STEPS
from bandits.statistics import Array


def single_log_factors(arm: NDArray[np.int64], outcome: Array, propensities: Array, pooled: Array) -> Array:
    """Log factors of one decision each of many experiments, (N, K, K, G): `arm` (N,), `outcome`
    (N,) in [0, 1], `propensities` (N, K), `pooled` (N,) the means of earlier buckets. The same
    numbers as `DesignEvidence.observe`."""
    runs, arms = propensities.shape
    rows = np.arange(runs)
    own = propensities[rows, arm]
    q = (own[:, None] / (own[:, None] + propensities))[..., None]  # P(chosen | chosen or the other), (N, K, 1)
    high, low = (side[:, None, :] for side in alternatives(pooled))
    y = outcome[:, None, None]
    found = np.zeros((runs, arms, arms, len(STEPS)))
    found[rows, arm] += log_factor(y, high, q * high + (1.0 - q) * low)
    found[rows, :, arm] += log_factor(y, low, q * low + (1.0 - q) * high)
    found[rows, arm, arm] = 0.0
    return found


def counted_log_factors(ones: Array, zeros: Array, propensities: Array, pooled: Array) -> Array:
    """Sums of log factors of many experiments' buckets at once, (N, K, K, G), for binary outcomes
    and one propensity an arm.

    `ones` and `zeros` (N, K) count outcomes by arm, `propensities` are (N, K), `pooled` (N,) the
    means of earlier buckets. The same numbers as `DesignEvidence.observe`.
    """
    high, low = (side[:, None, None, :] for side in alternatives(pooled))
    first, second = propensities[:, :, None], propensities[:, None, :]
    both = first + second
    q = np.where(both > 0, first / np.where(both > 0, both, 1.0), 0.5)[..., None]
    mixed = q * high + (1.0 - q) * low
    log_mixed, log_rest = np.log(mixed), np.log1p(-mixed)
    better, worse = (slice(None), slice(None), None, None), (slice(None), None, slice(None), None)
    sums: Array = (
        ones[better] * (np.log(high) - log_mixed)
        + zeros[better] * (np.log1p(-high) - log_rest)
        + ones[worse] * (np.log(low) - log_mixed)
        + zeros[worse] * (np.log1p(-low) - log_rest)
    )
    seats = np.arange(propensities.shape[1])
    sums[:, seats, seats] = 0.0
    return sums
