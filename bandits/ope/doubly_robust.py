"""A reward model corrected by importance weights. Sources: Dudík, Langford & Li 2011 (dr); Wang,
Agarwal & Dudík 2017 (switch_dr)."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bandits import checks
from bandits.statistics import Array

from .estimate import Estimate, Logged, estimate, logged


@dataclass(frozen=True, slots=True)
class Modelled:
    """q of the chosen arm (n,), the target's mean of q (n,), and the least and greatest q by
    possible weight, as log.ratios are."""

    chosen: Array
    expected: Array
    least: Array
    greatest: Array

    def below(self, log: Logged) -> Array:
        """How far an outcome may lie below what the model expects, (n, m)."""
        return np.maximum(self.greatest - log.bounds[0], 0.0)

    def above(self, log: Logged) -> Array:
        return np.maximum(log.bounds[1] - self.least, 0.0)


def modelled(reward_estimates: Any, log: Logged) -> Modelled:
    """Estimates as people give them, for a checked log. Raises ValueError."""
    q = np.asarray(reward_estimates, dtype=np.float64)
    n = len(log)
    if not np.isfinite(q).all():
        raise ValueError("reward_estimates: finite numbers were expected")
    if q.shape == (n,):
        each = np.broadcast_to(q[:, None], log.ratios.shape)
        return Modelled(q, q, each, each)
    if log.target is None or log.actions is None:
        raise ValueError(
            f"reward_estimates: shape ({n},) was expected, or (n, arms) with target_probabilities of every arm and actions"
        )
    if q.shape != log.target.shape:
        raise ValueError(f"reward_estimates: shape {log.target.shape} was expected, as target_probabilities have")
    rows = np.arange(n)
    chosen, expected = q[rows, log.actions], np.asarray((log.target * q).sum(axis=1))
    if log.by_arm:
        return Modelled(chosen, expected, q, q)
    others = np.ma.masked_array(q)
    others[rows, log.actions] = np.ma.masked
    least, greatest = (np.stack((chosen, end.filled(0.0)), axis=1) for end in (others.min(axis=1), others.max(axis=1)))
    return Modelled(chosen, expected, least, greatest)


def dr(
    rewards: Any,
    propensities: Any,
    target_probabilities: Any,
    reward_estimates: Any,
    *,
    actions: Any = None,
    alpha: float = 0.05,
    bounds: tuple[float, float] | None = None,
    units: Any = None,
) -> Estimate:
    """The mean of v(x) + w (r - q(x, a)): right if the propensities or the model are, and narrow if
    the model is good.

    `reward_estimates` is q for every arm, (n, K), with `target_probabilities` (n, K) and `actions`
    (n,), and then v is the target's mean of q; or (n,), an estimate that does not depend on the
    arm, and then v = q. The model must not have been fitted to the decisions that it is used on, or
    only with cross-fitting (`fitted_rewards`). Otherwise as `ips`.
    """
    log = logged(rewards, propensities, target_probabilities, actions, bounds=bounds, units=units)
    return dr_of(log, modelled(reward_estimates, log), alpha)


def dr_of(log: Logged, model: Modelled, alpha: float) -> Estimate:
    """`dr` of a checked log."""
    scores = model.expected + log.weights * (log.rewards - model.chosen)
    value = float(scores.mean())
    return estimate(value, scores - value, log, alpha, (log.jump(model.below(log)), log.jump(model.above(log))))


def switch_dr(
    rewards: Any,
    propensities: Any,
    target_probabilities: Any,
    reward_estimates: Any,
    *,
    actions: Any = None,
    threshold: float | None = None,
    alpha: float = 0.05,
    bounds: tuple[float, float] | None = None,
    units: Any = None,
) -> Estimate:
    """As `dr`, but where a weight passes `threshold` the model alone is believed: less variance,
    for some bias if the model is wrong.

    Without a threshold it is the 99th percentile of the weights, and at least 10: the few that
    would dominate. The interval holds the bias: what was cut, times how far the model can be wrong
    there within the rewards' bounds; or, where that says less, it is the one of `dr`, which cuts
    nothing, widened to hold the value. A cut is warned of by how much of the target's choices the
    model alone answers for.
    """
    log = logged(rewards, propensities, target_probabilities, actions, bounds=bounds, units=units)
    model = modelled(reward_estimates, log)
    return switch_dr_of(log, model, dr_of(log, model, alpha), alpha, threshold)


def switch_dr_of(
    log: Logged, model: Modelled, whole: Estimate, alpha: float, threshold: float | None = None
) -> Estimate:
    """`switch_dr` of a checked log; `whole` is what `dr_of` says of it."""
    limit = max(10.0, float(np.quantile(log.weights, 0.99))) if threshold is None else threshold
    checks.number("threshold", limit, 0.0, np.inf)
    cut, possible_cut = log.weights > limit, log.ratios > limit
    if not cut.any() and not (log.every_arm and possible_cut.any()):
        return whole
    scores = model.expected + np.where(cut, 0.0, log.weights) * (log.rewards - model.chosen)
    value = float(scores.mean())
    below, above = model.below(log), model.above(log)
    if log.every_arm:
        mass = np.where(possible_cut, log.masses, 0.0)
        share = float(mass.sum(axis=1).mean())
        bias = (float((mass * below).sum(axis=1).mean()), float((mass * above).sum(axis=1).mean()))
    else:
        # Seen from the draws alone: the mean of their weights, and of one draw more.
        share = min(1.0, float(log.weights[cut].sum() + log.weights.max()) / len(log))
        bias = (share * float(below.max()), share * float(above.max()))
    jumps = (log.jump(np.where(possible_cut, 0.0, below)), log.jump(np.where(possible_cut, 0.0, above)))
    found = estimate(value, scores - value, log, alpha, jumps, bias)
    interval = found.interval
    if interval is not None and whole.interval is not None:
        low, high = min(whole.interval[0], value), max(whole.interval[1], value)
        if high - low < interval[1] - interval[0]:
            interval = (low, high)
    said = f"weights above {limit:.3g} were left to the reward model: it alone answers for {share:.0%} of the target's choices"
    return replace(found, interval=interval, warnings=(*found.warnings, said))
