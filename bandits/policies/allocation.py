"""From a policy's probabilities to the ones that traffic gets: burn-in, floor, disabled arms."""

import numpy as np
from numpy.typing import NDArray

from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .protocol import ContextualBelief, ContextualPolicy, CostAware, Policy

_SUM_TOLERANCE = 1e-9


DEFAULT_FLOOR = 0.01
_FLOORS_TOGETHER = 0.1


def default_floor(arms: int) -> float:
    """The floor of an experiment that names none: 1 % of the traffic an arm, a tenth of it for all
    arms together at most.

    A floor that does not shrink takes everything from the policy: 100 arms of 1 % each are an even
    split for ever.
    """
    return min(DEFAULT_FLOOR, _FLOORS_TOGETHER / arms)


def with_floor(weights: Array, floor: float) -> Array:
    """p = f + (1 - K f) w for weights (K,): every arm gets at least `floor`, in the weights' order.

    Clipping and renormalising was rejected: it changes the ratios of arms that are far above the
    floor. Raises ValueError when K floors do not fit into 1.
    """
    arms = weights.shape[-1]
    if not 0.0 <= floor * arms <= 1.0:
        raise ValueError(f"a floor of {floor:g} for {arms} arms: at most {1.0 / arms:g} was expected")
    floored: Array = floor + (1.0 - arms * floor) * weights
    return floored


def with_burn_in(weights: Array, count: Array, burn_in: float) -> Array:
    """Arms with fewer than `burn_in` rewards get 1/K each; the others share the rest in proportion
    to their weights. (..., K).

    `count` (..., K) are the rewards ever learned: held against what a memory leaves, arms would
    stay young for ever wherever K burn-ins are more than it remembers.
    """
    arms = weights.shape[-1]
    young = count < burn_in
    if not young.any():
        return weights
    old = np.where(young, 0.0, weights)
    left = old.sum(axis=-1, keepdims=True)
    # A policy may put everything on a young arm; then the others share evenly.
    mature = np.maximum((~young).sum(axis=-1, keepdims=True), 1)
    old = np.where(left > 0, old / np.where(left > 0, left, 1.0), (~young) / mature)
    rest = 1.0 - young.sum(axis=-1, keepdims=True) / arms
    shares: Array = np.where(young, 1.0 / arms, old * rest)
    return shares


def among(allocation: Array, eligible: NDArray[np.bool_]) -> Array:
    """The allocation (..., K) of a request that only `eligible` (..., K) arms may serve: theirs, in
    the same ratios, with a sum of 1; exactly 0 for the others.

    Where the allocation gives none of them anything they share evenly, as arms past their burn-in
    do. Raises ValueError where no arm is eligible.
    """
    if not eligible.any(axis=-1).all():
        raise ValueError("no arm is eligible")
    left = np.where(eligible, allocation, 0.0)
    total = left.sum(axis=-1, keepdims=True)
    even = eligible / eligible.sum(axis=-1, keepdims=True)
    shares: Array = np.where(total > 0.0, left / np.where(total > 0.0, total, 1.0), even)
    return shares


def allocate(
    policy: Policy,
    statistics: ArmStatistics,
    reward: RewardModel,
    *,
    floor: float = 0.0,
    burn_in: float = 0.0,
    learned: Array | None = None,
    pulls: Array | None = None,
    enabled: NDArray[np.bool_] | None = None,
    costs: Array | None = None,
) -> Array:
    """The probability with which each arm is to be served, (K,); sums to 1, and is exactly 0 for an
    arm that is not enabled.

    `learned` (K,) counts the rewards that were ever learned of each arm, which burn-in is held
    against: not those of `statistics`, of which a memory may leave fewer than burn-in asks for, for
    ever. None where they are the same. `pulls` (K,) are out: decided, and not answered yet. `costs`
    (K,) matter to a policy with a subsidy.

    Raises ValueError when no arm is enabled, and when the probabilities do not sum to 1.
    """
    mask = np.ones(statistics.arms, dtype=np.bool_) if enabled is None else enabled
    if not mask.any():
        raise ValueError("no arm is enabled")
    among = ArmStatistics(statistics.count[mask], statistics.mean[mask], statistics.m2[mask])
    if costs is not None and isinstance(policy, CostAware) and policy.subsidy > 0.0:
        weights = policy.cost_aware_propensities(among, reward, costs[mask])
    else:
        weights = policy.propensities(among, reward, None if pulls is None else pulls[mask])
    ever = statistics.count if learned is None else learned
    weights = with_floor(with_burn_in(weights, ever[mask], burn_in), floor)
    total = float(weights.sum())
    if not abs(total - 1.0) < _SUM_TOLERANCE:
        raise ValueError(f"probabilities of {policy.name} sum to {total!r}")
    allocation = np.zeros(statistics.arms)
    allocation[mask] = weights / total
    return allocation


def allocate_in_context(
    policy: ContextualPolicy,
    belief: ContextualBelief,
    x: Array,
    count: Array,
    *,
    floor: float = 0.0,
    burn_in: float = 0.0,
    enabled: NDArray[np.bool_] | None = None,
) -> Array:
    """As `allocate`, for each of n requests with features `x` (n, d): (n, K). `count` (K,) are the
    rewards ever learned of each arm."""
    arms = len(count)
    mask = np.ones(arms, dtype=np.bool_) if enabled is None else enabled
    if not mask.any():
        raise ValueError("no arm is enabled")
    among = ContextualBelief(belief.mean[..., mask, :], belief.covariance[..., mask, :, :])
    weights = policy.propensities(*among.values(x))
    weights = with_floor(with_burn_in(weights, np.broadcast_to(count[mask], weights.shape), burn_in), floor)
    total = weights.sum(axis=-1, keepdims=True)
    if not float(np.abs(total - 1.0).max(initial=0.0)) < _SUM_TOLERANCE:
        raise ValueError(f"probabilities of {policy.name} do not sum to 1")
    allocation = np.zeros((len(weights), arms))
    allocation[:, mask] = weights / total
    return allocation
