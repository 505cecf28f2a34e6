"""What index policies share: the greatest index wins, ties break at random, and means live in [0,
1] with larger better."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .protocol import Remembering


def unit_scale(pooled: tuple[Array, Array, Array], reward: RewardModel) -> tuple[Array, Array]:
    """(shift, scale) with (reward - shift) / scale in a range of one, larger better; the scale is
    negative for `minimize`.

    By the reward's bounds where it has them; else by four pooled standard deviations, a range that
    covers nearly all of a bell-shaped reward, centred at one half. `pooled` is (count, mean, m2) of
    all arms, each (..., 1).
    """
    sign = -1.0 if reward.direction == "minimize" else 1.0
    count, mean, m2 = pooled
    if reward.bounds is not None:
        low, high = reward.bounds
        ones = np.ones_like(mean)
        return (low if sign > 0 else high) * ones, sign * (high - low) * ones
    deviation = np.sqrt(m2 / np.where(count > 0, count, 1.0))
    scale = sign * 4.0 * np.where(deviation > 0, deviation, 1.0)
    return mean - 0.5 * scale, scale


def unit_means(statistics: ArmStatistics, reward: RewardModel) -> Array:
    """Means (..., K) on that scale."""
    shift, scale = unit_scale(statistics.pooled(), reward)
    means: Array = (statistics.mean - shift) / scale
    return means


def unit_variances(statistics: ArmStatistics, reward: RewardModel) -> Array:
    """Variances (..., K) on that scale."""
    _, scale = unit_scale(statistics.pooled(), reward)
    variances: Array = statistics.variance / np.square(scale)
    return variances


def leaders(index: Array) -> Array:
    """Probabilities (..., K) that put all on the greatest index, shared evenly among ties."""
    best = index >= index.max(axis=-1, keepdims=True)
    shares: Array = best / best.sum(axis=-1, keepdims=True)
    return shares


def choose_leader(index: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """An arm of greatest index for each leading axis, ties broken at random."""
    keys = np.where(index >= index.max(axis=-1, keepdims=True), rng.random(index.shape), -1.0)
    chosen: NDArray[np.int64] = np.argmax(keys, axis=-1)
    return chosen


def draw(probabilities: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """An arm for each leading axis of probabilities (..., K), each row of which sums to 1; one of
    probability 0 is never drawn."""
    cumulative = np.cumsum(probabilities, axis=-1)
    point = rng.random(cumulative.shape[:-1])[..., None] * cumulative[..., -1:]
    chosen: NDArray[np.int64] = (cumulative <= point).sum(axis=-1)
    return chosen


def with_first_pulls(count: Array, index: Callable[[Array, Array], Array]) -> Array:
    """`index(count, t)` of shape (..., K), with an infinite one for arms that were never pulled."""
    t = count.sum(axis=-1, keepdims=True)
    safe = np.where(count > 0, count, 1.0)
    return np.where(count > 0, index(safe, np.maximum(t, 1.0)), np.inf)


@dataclass(frozen=True, slots=True)
class IndexPolicy(Remembering, ABC):
    """Plays the arm with the greatest index. Deterministic, so pulls whose rewards are out are
    counted."""

    contextual: ClassVar[Literal[False]] = False
    counts_own_pulls: ClassVar[bool] = True

    @abstractmethod
    def index(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        """The index of each arm, (..., K). `pulls` counts pulls whose rewards are out: they narrow
        the radius, not the mean."""

    def propensities(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        return leaders(self.index(statistics, reward, pulls))

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        return choose_leader(self.index(statistics, reward, pulls), rng)


def counted(statistics: ArmStatistics, pulls: Array | None) -> Array:
    """Pulls of each arm, those whose rewards are out included."""
    return statistics.count if pulls is None else statistics.count + pulls
