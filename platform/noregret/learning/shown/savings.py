"""What the traffic of a bandit earned beyond an even split of it: from sums over the ledger by
weight. Reads only."""

from collections.abc import Sequence

import numpy as np

from bandits.inference.even_split import Saved, saved
from bandits.inference.units import of_units
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import made_policy
from noregret.experiments.rewards import reward_model
from noregret.learning.evidence import keeps_units, units_count_once
from noregret.learning.served import that_only_fail
from noregret.learning.summing import weighs
from noregret.learning.sums import Sums

from .outcomes import INTERVAL_ALPHA


def against_even_split(experiment: Experiment, arms: Sequence[Arm], sums: Sums | None) -> Saved | None:
    """Reward earned beyond what the same rewarded decisions, split evenly over the arms that had a
    chance, would have.

    An arm without an outcome that can't be served, for it was taken out or only fails, is in no
    split. None where it can't be known: no probabilities between 0 and 1 (a deterministic policy
    without a floor), another arm without a reward, and before the sums are made. None for all but a
    bandit that serves: nothing else splits to earn.
    """
    if sums is None or not _splits(experiment):
        return None
    seats = [arm.pk for arm in arms]
    split = sums.even_split(seats)
    if (split.moments.count[0] == 0).any():
        failing = that_only_fail(arms)
        gone = np.array([not arm.enabled or arm.pk in failing for arm in arms])
        split = split.without(gone & (split.moments.count[0] == 0))
    means, draws = None, None
    if keeps_units(experiment):
        means = of_units(sums.of_weighted_units(seats), split.moments.mean[1])
        if not (means.count[split.share > 0] > 0).all():
            return None
    if units_count_once(experiment) and (units := sums.of_units(seats)).count.any():
        draws = float(np.square(units.count.sum()) / units.squared_count.sum())
    return saved(split, reward_model(experiment), INTERVAL_ALPHA, means, draws)


def _splits(experiment: Experiment) -> bool:
    """Does each request have a chance of several arms, with a probability that was logged?"""
    policy, made = experiment.policy_, made_policy(experiment)
    if not weighs(experiment) or policy is None or made is None or experiment.apprentice:
        return False
    return not made.counts_own_pulls or policy.floor > 0.0
