"""Importance weighting. Sources: Horvitz & Thompson 1952 (ips); Swaminathan & Joachims 2015
(snips); Owen 2013, ch. 9, for its variance."""

from typing import Any

import numpy as np

from .estimate import Estimate, Logged, estimate, logged


def ips(
    rewards: Any,
    propensities: Any,
    target_probabilities: Any,
    *,
    actions: Any = None,
    alpha: float = 0.05,
    bounds: tuple[float, float] | None = None,
    units: Any = None,
) -> Estimate:
    """The mean of w r: unbiased, and wide where weights are large.

    `rewards` (n,), `propensities` (n,) of the chosen arm as logged, `target_probabilities` (n,) of
    the same arm under the target policy; or (n, K) of every arm, with `actions` (n,), and then
    `propensities` may be (n, K) too. `bounds` are the least and greatest possible reward, infinite
    where there is none: without them 0 and 1 where there is nothing else. `units` (n,) say who was
    served, None for nobody known: decisions of one unit are not independent, and errors are of sums
    by unit.

    Raises ValueError, and Unsupported where the log can't answer.
    """
    return ips_of(logged(rewards, propensities, target_probabilities, actions, bounds=bounds, units=units), alpha)


def ips_of(log: Logged, alpha: float) -> Estimate:
    """`ips` of a checked log."""
    weighted = log.weights * log.rewards
    value = float(weighted.mean())
    least, greatest = log.bounds
    # A draw that was not seen adds w r; an outcome that was not seen takes from what was expected
    # of it.
    down = max(-least, min(value, greatest) - least)
    up = max(greatest, greatest - least)
    return estimate(value, weighted - value, log, alpha, (down * log.unit_jump, up * log.unit_jump))


def snips(
    rewards: Any,
    propensities: Any,
    target_probabilities: Any,
    *,
    actions: Any = None,
    alpha: float = 0.05,
    bounds: tuple[float, float] | None = None,
    units: Any = None,
) -> Estimate:
    """The sum of w r over the sum of w: a ratio, with a little bias and much less variance than
    `ips`; arguments as there.

    Its variance is the ratio's, by the delta method: the mean square of w (r - value) / mean(w).
    The variance of w r alone, or of the weights apart, would make the interval far too wide.
    """
    return snips_of(logged(rewards, propensities, target_probabilities, actions, bounds=bounds, units=units), alpha)


def snips_of(log: Logged, alpha: float) -> Estimate:
    """`snips` of a checked log."""
    mean_weight = float(log.weights.mean())
    value = float((log.weights * log.rewards).mean()) / mean_weight
    influence = log.weights * (log.rewards - value) / mean_weight
    least, greatest = log.bounds
    jump = log.unit_jump / mean_weight
    jumps = (max(value - least, 0.0) * jump, max(greatest - value, 0.0) * jump)
    return estimate(value, np.asarray(influence), log, alpha, jumps)
