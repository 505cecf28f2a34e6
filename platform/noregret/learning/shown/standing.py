"""How an experiment's arms stand by what its policy believes: how probable it is that each is best,
and which one leads.

Shown and told, never acted on. What a policy has forgotten enters nothing here: it would contradict
the traffic that people see.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bandits.belief import Belief, believe
from bandits.inference.best_arm import expected_loss, probability_best
from bandits.memory import EVERYTHING, Memory
from bandits.statistics import ArmStatistics as Statistics
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import made_policy
from noregret.experiments.rewards import reward_model
from noregret.learning.knowledge import known_to_policy
from noregret.learning.served import that_only_fail


@dataclass(frozen=True, slots=True)
class Standing:
    """By position: `best`, the probability of each enabled arm to be the best of them, and `loss`,
    what choosing it would cost in reward units; None where that can't be known. `leader` is the arm
    with the greatest of `best`.
    """

    best: list[float | None]
    loss: list[float | None]
    leader: Arm | None


def standing(experiment: Experiment, arms: list[Arm], *, with_loss: bool = False) -> Standing:
    """How the arms, given by position, stand.

    An arm that fails whenever it is asked is no candidate: without a reward its belief is the
    prior, which may look best. Nothing is known before a reward came, where only the control serves
    (a shadow, an apprentice), and for a policy that learns from features: there an arm's mean is
    over the requests that it was chosen for, and says nothing of others.
    """
    unknown: list[float | None] = [None] * len(arms)
    memory = memory_of(experiment)
    if memory is None or experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice:
        return Standing(unknown, unknown, None)
    known = known_to_policy(experiment, arms, made_policy(experiment)).remembered
    seats = [i for i, arm in enumerate(arms) if arm.enabled]
    failing = that_only_fail([arms[i] for i in seats]) if not known.count[seats].all() else set()
    seats = [i for i in seats if arms[i].pk not in failing]
    if not seats or not known.count[seats].sum():
        return Standing(unknown, unknown, None)
    try:
        belief: Belief = believe(_of(known, seats), reward_model(experiment))
    except ValueError:  # a damaged row: no posterior fits its statistics, and it must stop nobody's round
        return Standing(unknown, unknown, None)
    best = np.ravel(probability_best(belief.posterior))
    loss = _spread(_loss(belief), seats, len(arms)) if with_loss else unknown
    leader = int(best.argmax())
    return Standing(
        _spread(best, seats, len(arms)),
        loss,
        arms[seats[leader]] if known.count[seats[leader]] else None,
    )


def _loss(belief: Belief) -> Array:
    """What choosing each arm would cost, in reward units."""
    return np.ravel(belief.in_reward_units(expected_loss(belief.posterior)))


def memory_of(experiment: Experiment) -> Memory | None:
    """How much of the past the policy knows: everything without a policy; None for one that learns
    from features."""
    made = made_policy(experiment)
    if made is None:
        return EVERYTHING
    return None if made.contextual else made.memory


def _of(statistics: Statistics, seats: list[int]) -> Statistics:
    return Statistics(statistics.count[seats], statistics.mean[seats], statistics.m2[seats])


def _spread(values: Any, seats: list[int], arms: int) -> list[float | None]:
    found: list[float | None] = [None] * arms
    for seat, value in zip(seats, values, strict=True):
        found[seat] = float(value)
    return found
