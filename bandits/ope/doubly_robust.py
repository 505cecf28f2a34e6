"""A reward model corrected by importance weights. Sources: Dudík, Langford & Li 2011 (dr); Wang, Agarwal & Dudík 2017 (switch_dr)."""

from typing import Any

import numpy as np

from bandits import checks
from bandits.statistics import Array

from .estimate import Estimate, Logged, estimate, logged


def dr(
    rewards: Any,
    propensities: Any,
    target_probabilities: Any,
    reward_estimates: Any,
    *,
    actions: Any = None,
    alpha: float = 0.05,
) -> Estimate:
    """The mean of v(x) + w (r - q(x, a)): right if the propensities or the model are, and narrow if the model is good.

    `reward_estimates` is q for every arm, (n, K), with `target_probabilities` (n, K) and `actions` (n,), and then v is the target's
    mean of q; or (n,), an estimate that does not depend on the arm, and then v = q. The model must not have been fitted to the
    decisions that it is used on, or only with cross-fitting (`fitted_rewards`). Otherwise as `ips`.
    """
    log = logged(rewards, propensities, target_probabilities, actions)
    chosen, expected = _modelled(reward_estimates, log)
    scores = expected + log.weights * (log.rewards - chosen)
    value = float(scores.mean())
    return estimate(value, scores - value, log, alpha)


def switch_dr(
    rewards: Any,
    propensities: Any,
    target_probabilities: Any,
    reward_estimates: Any,
    *,
    actions: Any = None,
    threshold: float | None = None,
    alpha: float = 0.05,
) -> Estimate:
    """As `dr`, but where a weight passes `threshold` the model alone is believed: less variance, for some bias if the model is wrong.

    Without a threshold it is the 99th percentile of the weights, and at least 10: the few that would dominate. An extreme weight is
    warned of by how much of the target's choices the model alone answers for.
    """
    log = logged(rewards, propensities, target_probabilities, actions)
    limit = max(10.0, float(np.quantile(log.weights, 0.99))) if threshold is None else threshold
    checks.number("threshold", limit, 0.0, np.inf)
    chosen, expected = _modelled(reward_estimates, log)
    kept = np.where(log.weights <= limit, log.weights, 0.0)
    scores = expected + kept * (log.rewards - chosen)
    value = float(scores.mean())
    found = estimate(value, scores - value, log, alpha)
    cut = float(log.weights[log.weights > limit].sum() / log.weights.sum())
    if cut > 0.0:
        said = f"weights above {limit:.3g} were left to the reward model: it alone answers for {cut:.0%} of the target's choices"
        found = Estimate(
            found.value,
            found.standard_error,
            found.interval,
            found.effective_sample_size,
            found.largest_weight,
            found.decisions,
            (*found.warnings, said),
        )
    return found


def _modelled(reward_estimates: Any, log: Logged) -> tuple[Array, Array]:
    """(q of the chosen arm, the target's mean of q), each (n,). Raises ValueError."""
    q = np.asarray(reward_estimates, dtype=np.float64)
    n = len(log.rewards)
    if not np.isfinite(q).all():
        raise ValueError("reward_estimates: finite numbers were expected")
    if q.shape == (n,):
        return q, q
    if log.target is None or log.actions is None:
        raise ValueError(
            f"reward_estimates: shape ({n},) was expected, or (n, arms) with target_probabilities of every arm and actions"
        )
    if q.shape != log.target.shape:
        raise ValueError(f"reward_estimates: shape {log.target.shape} was expected, as target_probabilities have")
    return q[np.arange(n), log.actions], np.asarray((log.target * q).sum(axis=1))
