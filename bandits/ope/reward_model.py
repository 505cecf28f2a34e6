"""A model of the reward for doubly robust estimates, cross-fitted: no decision is predicted by a
model that has seen it."""

import numpy as np
from numpy.typing import NDArray

from bandits.posteriors import BayesianLinear, LinearStatistics
from bandits.statistics import Array

FOLDS = 5


def fitted_rewards(
    arm: NDArray[np.int64],
    x: Array,
    rewards: Array,
    arms: int,
    *,
    seed: int = 0,
    ridge: float = 1.0,
    units: NDArray[np.int64] | None = None,
) -> Array:
    """The expected reward of every arm at every decision, (n, K), by ridge regression an arm on
    features `x` (n, d).

    Each fifth of the decisions, drawn at random, is predicted from the other four: their statistics
    are the whole's less its own, merged. An arm that was hardly seen is drawn towards the mean of
    all. With `units` (n,) a unit's decisions are in one part: what it did at one of them says too
    much of the others.
    """
    n = len(rewards)
    whose = np.arange(n) if units is None else np.unique(units, return_inverse=True)[1]
    groups = int(whose.max()) + 1
    fold = (np.random.default_rng(seed).permutation(groups) % min(FOLDS, groups))[whose]
    parts = [
        LinearStatistics.from_rows(arm[fold == k], x[fold == k], rewards[fold == k], arms)
        for k in range(min(FOLDS, groups))
    ]
    found = np.empty((n, arms))
    for k in range(len(parts)):
        others = LinearStatistics.zeros(arms, dimension=x.shape[1])
        for other in (*parts[:k], *parts[k + 1 :]):
            others = others + other
        _, mean, _ = others.rewards.pooled()
        posterior = BayesianLinear.of(others.affine(mean, 1.0), ridge)
        found[fold == k] = float(mean[0]) + x[fold == k] @ posterior.mean.T
    return found
