"""Did the split go as logged? Sample-ratio mismatch against the propensities, not against nominal weights."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

ALARM = 0.001
_SMALLEST_EXPECTED = 5.0


def sample_ratio_p(counts: Sequence[float], expected: Sequence[float]) -> float | None:
    """p-value of the chi-squared test of counts (K,) against the sums of logged propensities (K,).

    None when it can't be known: fewer than two arms with an expectation of 5 or more. Alarm below ALARM.
    """
    seen, wanted = np.asarray(counts, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    kept = wanted >= _SMALLEST_EXPECTED
    if kept.sum() < 2:
        return None
    chi_squared = float((np.square(seen[kept] - wanted[kept]) / wanted[kept]).sum())
    return float(stats.chi2.sf(chi_squared, int(kept.sum()) - 1))
