"""Sufficient statistics of rewards by arm: counts, means and squared deviations, which add.

Shards, days and batches merge by `+`, in any order and any grouping, to what one pass over all
rewards gives (counts exactly, moments to rounding). No single reward is kept here, and no clock:
decay is a factor that the caller gives.

Source: Chan, Golub & LeVeque 1979, updating formulae for means and variances. Sums of squares were
rejected: for rewards with a mean far from 0 they cancel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArmStatistics:
    """`count`, `mean` and `m2` (sum of squared deviations from the mean), each of shape (..., K)
    for K arms."""

    count: Array
    mean: Array
    m2: Array

    @classmethod
    def zeros(cls, *shape: int) -> "ArmStatistics":
        """Nothing seen yet; `shape` ends in the number of arms."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    @classmethod
    def from_rewards(
        cls, arm: NDArray[np.int64], reward: Array, arms: int, weights: Array | None = None
    ) -> "ArmStatistics":
        """Statistics of `reward` (n,) by `arm` (n,), for `arms` arms; each reward may have a
        weight, (n,)."""
        if weights is None:
            weights = np.ones(len(arm))
        count = np.bincount(arm, weights=weights, minlength=arms).astype(np.float64)
        total: Array = np.bincount(arm, weights=weights * reward, minlength=arms).astype(np.float64)
        mean = np.divide(total, count, out=np.zeros(arms), where=count > 0)
        m2 = np.bincount(arm, weights=weights * (reward - mean[arm]) ** 2, minlength=arms).astype(np.float64)
        return cls(count, mean, m2)

    def __add__(self, other: "ArmStatistics") -> "ArmStatistics":
        count = self.count + other.count
        safe = np.where(count > 0, count, 1.0)
        delta = other.mean - self.mean
        mean = self.mean + delta * other.count / safe
        m2 = self.m2 + other.m2 + delta**2 * self.count * other.count / safe
        return ArmStatistics(count, np.where(count > 0, mean, 0.0), m2)

    def padded(self, width: tuple[int, int]) -> "ArmStatistics":
        """With so many arms more before and after, of which nothing was seen. For statistics of
        shape (K,)."""
        return ArmStatistics(*(np.pad(part, width) for part in (self.count, self.mean, self.m2)))

    @property
    def arms(self) -> int:
        return int(self.count.shape[-1])

    @property
    def total(self) -> Array:
        """Sum of rewards, (..., K)."""
        return self.count * self.mean

    @property
    def variance(self) -> Array:
        """Population variance, (..., K); 0 where nothing was seen."""
        return np.divide(self.m2, self.count, out=np.zeros_like(self.m2), where=self.count > 0)

    def pooled(self) -> tuple[Array, Array, Array]:
        """(count, mean, m2) of all arms together, each (..., 1)."""
        count = self.count.sum(axis=-1, keepdims=True)
        safe = np.where(count > 0, count, 1.0)
        mean = self.total.sum(axis=-1, keepdims=True) / safe
        m2 = (self.m2 + self.count * (self.mean - mean) ** 2).sum(axis=-1, keepdims=True)
        return count, mean, m2

    def affine(self, shift: float | Array, scale: float | Array) -> "ArmStatistics":
        """The statistics of (reward - shift) / scale."""
        mean = np.where(self.count > 0, (self.mean - shift) / scale, 0.0)
        return ArmStatistics(self.count, mean, self.m2 / np.square(scale))

    def faded(self, factor: float) -> "ArmStatistics":
        """Every reward's weight times `factor`, in (0, 1]."""
        return ArmStatistics(self.count * factor, self.mean, self.m2 * factor)

    def to_dict(self) -> dict[str, Any]:
        return {"count": self.count.tolist(), "mean": self.mean.tolist(), "m2": self.m2.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "ArmStatistics":
        return cls(*(np.asarray(state[name], dtype=np.float64) for name in ("count", "mean", "m2")))
