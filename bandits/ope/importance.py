"""Importance weighting. Sources: Horvitz & Thompson 1952 (ips); Swaminathan & Joachims 2015 (snips); Owen 2013, ch. 9, for its variance."""

from typing import Any

import numpy as np

from .estimate import Estimate, estimate, logged


def ips(
    rewards: Any, propensities: Any, target_probabilities: Any, *, actions: Any = None, alpha: float = 0.05
) -> Estimate:
    """The mean of w r: unbiased, and wide where weights are large.

    `rewards` (n,), `propensities` (n,) of the chosen arm as logged, `target_probabilities` (n,) of the same arm under the target
    policy; or (n, K) of every arm, with `actions` (n,). Raises ValueError, and Unsupported where the log can't answer.
    """
    log = logged(rewards, propensities, target_probabilities, actions)
    weighted = log.weights * log.rewards
    value = float(weighted.mean())
    return estimate(value, weighted - value, log, alpha)


def snips(
    rewards: Any, propensities: Any, target_probabilities: Any, *, actions: Any = None, alpha: float = 0.05
) -> Estimate:
    """The sum of w r over the sum of w: a ratio, with a little bias and much less variance than `ips`; arguments as there.

    Its variance is the ratio's, by the delta method: the mean square of w (r - value) / mean(w). The variance of w r alone, or of the
    weights apart, would make the interval far too wide.
    """
    log = logged(rewards, propensities, target_probabilities, actions)
    total = float(log.weights.sum())
    value = float((log.weights * log.rewards).sum()) / total
    influence = log.weights * (log.rewards - value) / (total / len(log.weights))
    return estimate(value, np.asarray(influence), log, alpha)
