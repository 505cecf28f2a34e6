"""Which share of the traffic each arm has by what is known now: of a fixed split its weights, of a
bandit what its policy makes of it."""

import numpy as np

from bandits.policies import make
from bandits.policies.allocation import allocate
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.rewards import reward_model

from .knowledge import known_to_policy


def canary_weight(experiment: Experiment) -> float:
    """The challenger's share at the canary's present step; 0 before it begins."""
    if experiment.canary_ is None or experiment.canary_step is None:
        return 0.0
    steps = experiment.canary_.steps
    return steps[min(experiment.canary_step, len(steps) - 1)]


def _weights(experiment: Experiment, arms: list[Arm]) -> list[float]:
    """The weights of a fixed split."""
    if experiment.strategy == Experiment.Strategy.CANARY:
        weight = canary_weight(experiment)
        return [1.0 - weight if arm.is_control else weight for arm in arms]
    if experiment.strategy == Experiment.Strategy.SHADOW:
        return [float(arm.is_control) for arm in arms]
    return [arm.weight or 0.0 for arm in arms]


def propensities(experiment: Experiment, arms: list[Arm]) -> list[float | None]:
    """The probability of each arm by position; 0 for one that is not enabled, None where it depends
    on the request's features."""
    enabled = np.array([arm.enabled for arm in arms])
    policy = experiment.policy_
    if policy is None:
        weights = np.array(_weights(experiment, arms)) * enabled
        total = weights.sum()
        shares = weights / total if total > 0 else enabled / max(enabled.sum(), 1)
        return [float(share) for share in shares]
    made = make(policy.name, **policy.params)
    if made.contextual:
        return [None if arm.enabled else 0.0 for arm in arms]
    known = known_to_policy(experiment, arms, made)
    allocation = allocate(
        made,
        known.remembered,
        reward_model(experiment),
        floor=policy.floor,
        burn_in=policy.burn_in,
        learned=known.learned,
        pulls=known.open if made.counts_own_pulls else None,
        enabled=enabled,
        costs=np.array([arm.cost for arm in arms]),
    )
    return [float(share) for share in allocation]
