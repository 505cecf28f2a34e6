"""The interval of a mean that holds where few outcomes make it: skewness, and the jump that one
more outcome would have been.

The normal interval of an off-policy estimate is right where many outcomes share the weight. Where
successes are rare, or a target's arm was seldom served, the sample says too little of its own
spread: without a success its standard error is 0. So each limit is a quantile of a shifted gamma
law (Pearson III) with the estimate's variance and twice its third cumulant, which is what inverting
a skewed law asks for (Johnson 1978; Hall 1992), after one more outcome of the largest possible jump
was added on that limit's side, as Fay & Feuer (1997) do for weighted sums of rare counts. Of a
single weight both together are the exact limits of a Poisson count (Garwood 1936). Where the jump
is small against the standard error half of it is added, and the interval is nearly the normal one.

An empirical-Bernstein or betting interval (Waudby-Smith & Ramdas 2024) was rejected: it holds for
every bounded law, and is 1.4 times as wide where outcomes are plentiful.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits.statistics import Array

FULL_JUMP = 0.45
"""A jump of so many standard errors or more is added whole: some five outcomes of the largest
weight make up the estimate."""
_BINS = 256
_LEAST_SKEWNESS = 1e-4


@dataclass(frozen=True, slots=True)
class Atoms:
    """What may have been drawn: the size of each jump (m,) in units of the sum, 0 or more, and how
    much of the truth it stands for (m,), the target's probability times the outcome's distance,
    summed over decisions."""

    jump: Array
    mass: Array

    def largest(self, decisions: int) -> float:
        """The jump that a limit must allow for, in units of the mean.

        Not the largest of all: what is rare can be left out at the price of its mass. The least of
        jump + mass beyond it, over cuts at powers of 2^(1/8).
        """
        some = self.jump > 0.0
        if not some.any():
            return 0.0
        jump, mass = self.jump[some], self.mass[some]
        steps = np.clip(np.floor(8.0 * (np.log2(jump.max()) - np.log2(jump))), 0, _BINS - 1).astype(np.int64)
        within = np.full(_BINS, -np.inf)
        np.maximum.at(within, steps, jump)
        beyond = np.cumsum(np.bincount(steps, weights=mass, minlength=_BINS)) - np.bincount(
            steps, weights=mass, minlength=_BINS
        )
        # The largest jump in each bin and below it, held against the mass of the bins above.
        below = np.maximum.accumulate(within[::-1])[::-1]
        reached = np.isfinite(below)
        cut = float((below + beyond)[reached].min())
        return min(cut, float(mass.sum())) / decisions


def clustered(values: Array, clusters: NDArray[np.int64] | None) -> Array:
    """Sums of `values` (n,) by cluster (n,), or the values themselves where there are none."""
    return values if clusters is None else np.bincount(clusters, weights=values).astype(np.float64)


def standard_error(influence: Array, decisions: int) -> float:
    """Of a mean over `decisions`, from its influence function summed by cluster (g,); infinite for
    one cluster."""
    groups = len(influence)
    if groups < 2:
        return float("inf")
    return float(np.sqrt(np.square(influence).sum() * groups / (groups - 1))) / decisions


def limits(
    value: float, influence: Array, decisions: int, jumps: tuple[float, float], alpha: float
) -> tuple[float, float]:
    """(low, high) at level 1 - `alpha`, each end with alpha / 2.

    `influence` (g,) by cluster, `decisions` what the mean is over; `jumps` downwards and upwards,
    in units of the mean.
    """
    error = standard_error(influence, decisions)
    if not np.isfinite(error):
        return float("-inf"), float("inf")
    parts = influence / decisions
    third = float((parts * parts * parts).sum())
    down, up = jumps
    return value - _distance(error, -third, down, alpha), value + _distance(error, third, up, alpha)


def _distance(error: float, third: float, jump: float, alpha: float) -> float:
    """From the estimate to its upper limit; `third` is its third cumulant."""
    if error <= 0.0 and jump <= 0.0:
        return 0.0
    relative = jump / error / FULL_JUMP if error > 0.0 else np.inf
    share = 0.5 + 0.5 * min(relative, 1.0) ** 4
    variance = error**2 + share * jump**2
    cumulant = 2.0 * (third + share * jump**3)
    skewness = cumulant / variance**1.5
    if skewness > _LEAST_SKEWNESS:
        shape = 4.0 / skewness**2
        standardised = (float(special.gammainccinv(shape, alpha / 2.0)) - shape) / np.sqrt(shape)
    elif skewness < -_LEAST_SKEWNESS:
        shape = 4.0 / skewness**2
        standardised = (shape - float(special.gammaincinv(shape, alpha / 2.0))) / np.sqrt(shape)
    else:
        standardised = float(special.ndtri(1.0 - alpha / 2.0))
    return float(share * jump + np.sqrt(variance) * standardised)
