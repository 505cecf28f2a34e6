"""Means while attribution windows are still open: each open decision counts by the chance that its
feedback would have come by now.

Where no feedback means a reward of 0 (a click that did not happen), positives are known at once and
failures only when the window closes. Counting only what is known makes every arm look too good
during ramp-up, counting the open ones as failures makes slow arms look too bad. Divided by exposure
the mean is right on average: sum of rewards / sum over decisions of G(age), G the distribution of
delays. Source: Vernade, Cappé & Perchet 2017; Vernade et al. 2020.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .statistics import ArmStatistics, Array

BINS = 60


@dataclass(frozen=True, slots=True)
class DelayHistograms:
    """Counts of feedback by delay, in sixtieths of the window, of matured decisions only: (K, 60).
    Sums, so they merge by `+`.

    Of decisions whose window is open only the quick feedback is known, so these would make G too
    fast.
    """

    counts: Array

    @classmethod
    def zeros(cls, arms: int) -> "DelayHistograms":
        return cls(np.zeros((arms, BINS)))

    @classmethod
    def of(cls, arm: NDArray[np.int64], delay: Array, window: float, arms: int) -> "DelayHistograms":
        """Of feedback that came `delay` (n,) after decisions for `arm` (n,), both in the unit of
        `window`."""
        bins = np.clip((delay / window * BINS).astype(np.int64), 0, BINS - 1)
        return cls(np.bincount(arm * BINS + bins, minlength=arms * BINS).reshape(arms, BINS).astype(np.float64))

    def __add__(self, other: "DelayHistograms") -> "DelayHistograms":
        return DelayHistograms(self.counts + other.counts)

    def exposure(self, age: Array) -> Array:
        """G at ages (n,) in windows, for each arm: (n, K). One imagined reward, evenly spread,
        stands for what is not known yet."""
        weighted = self.counts + 1.0 / BINS
        cumulative = np.concatenate((np.zeros((len(weighted), 1)), np.cumsum(weighted, axis=1)), axis=1)
        cumulative /= cumulative[:, -1:]
        edges = np.linspace(0.0, 1.0, BINS + 1)
        return np.stack([np.interp(age, edges, of_arm) for of_arm in cumulative], axis=1)


def exposure_corrected(known: ArmStatistics, open_rewards: Array, open_exposure: Array) -> ArmStatistics:
    """Statistics (K,) whose counts are exposures, for rewards that are 0 unless feedback comes.

    `known` holds what came so far: feedback on open decisions, and everything of closed ones.
    `open_rewards` (K,) counts the feedback on open decisions in it, `open_exposure` (K,) sums
    G(age) over all open decisions.
    """
    total = known.total
    # Early feedback can outrun the exposure that was expected for it: a mean of binary rewards must
    # not pass 1.
    count = np.maximum(known.count - open_rewards + open_exposure, known.count)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    spread = known.m2 + known.count * np.square(known.mean - mean) + (count - known.count) * np.square(mean)
    return ArmStatistics(count, mean, spread)
