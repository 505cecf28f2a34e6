"""What index policies share: the greatest index wins, ties break at random, and means live in [0, 1] with larger better."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array


def unit_means(statistics: ArmStatistics, reward: RewardModel) -> Array:
    """Means (..., K) oriented so that larger is better and scaled to a range of one.

    By the reward's bounds where it has them; else by four pooled standard deviations, a range that covers nearly all of a
    bell-shaped reward.
    """
    sign = -1.0 if reward.direction == "minimize" else 1.0
    if reward.bounds is not None:
        low, high = reward.bounds
        scaled = (statistics.mean - low) / (high - low)
        return scaled if sign > 0 else 1.0 - scaled
    count, mean, m2 = statistics.pooled()
    deviation = np.sqrt(m2 / np.where(count > 0, count, 1.0))
    return 0.5 + sign * (statistics.mean - mean) / (4.0 * np.where(deviation > 0, deviation, 1.0))


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


def with_first_pulls(count: Array, index: Callable[[Array, Array], Array]) -> Array:
    """`index(count, t)` of shape (..., K), with an infinite one for arms that were never pulled."""
    t = count.sum(axis=-1, keepdims=True)
    safe = np.where(count > 0, count, 1.0)
    return np.where(count > 0, index(safe, np.maximum(t, 1.0)), np.inf)
