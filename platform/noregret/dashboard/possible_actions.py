"""Which actions an experiment allows now, and as of which state they are asked for."""

from collections.abc import Sequence

from noregret.experiments.lifecycle import possible
from noregret.experiments.models import Arm, Experiment

from .arm_table import serves_nobody


def possible_actions(experiment: Experiment) -> list[str]:
    """Steps first; those of one arm are by themselves."""
    allowed = possible(experiment.status)
    steps = []
    running = experiment.status == Experiment.Status.RUNNING
    if running and experiment.canary_ is not None and (experiment.canary_step or 0) + 1 < len(experiment.canary_.steps):
        steps.append("advance")
    if experiment.apprentice and allowed:
        steps.append("activate")
    grows = experiment.strategy in (Experiment.Strategy.BANDIT, Experiment.Strategy.SHADOW)
    floored = experiment.strategy == Experiment.Strategy.BANDIT
    changes = [*(["add"] if grows else []), *(["floor"] if floored else [])]
    return [*steps, *allowed, *(changes if allowed else [])]


def possible_arm_actions(experiment: Experiment, arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """(action, arm) of arms that can be taken out or put back."""
    if experiment.status not in (Experiment.Status.RUNNING, Experiment.Status.PAUSED):
        return []
    fixed = experiment.strategy in (Experiment.Strategy.CANARY, Experiment.Strategy.AB)
    movable = [
        arm for arm in arms if not (arm.is_control and fixed) and not (arm.is_control and serves_nobody(experiment))
    ]
    return [("disable" if arm.enabled else "enable", arm.name) for arm in movable]


def state_of(experiment: Experiment, arms: Sequence[Arm]) -> str:
    """What an action's consequence follows from, as a text to compare: who confirms an action means
    it of the state that was shown."""
    policy = experiment.policy_
    parts = [
        experiment.status,
        experiment.revision,
        experiment.canary_step,
        experiment.apprentice,
        experiment.endpoint.champion_id,
        None if policy is None else policy.floor,
        *(arm.name for arm in arms if arm.enabled),
    ]
    return " ".join("-" if part is None else str(part) for part in parts)
