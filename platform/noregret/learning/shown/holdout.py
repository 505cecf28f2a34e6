"""What the bandit earned beyond its control, on units that were and were not held out. Reads
only."""

import numpy as np
from msgspec import Struct

from bandits.inference.intervals import combined, interval
from bandits.inference.units import of_units
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model
from noregret.learning.sums import HELD_OUT, NOT_HELD_OUT, Part, Sums

from .outcomes import INTERVAL_ALPHA

_SIDES = {"bandit": NOT_HELD_OUT, "holdout": HELD_OUT}


class HoldoutSide(Struct, frozen=True):
    """Rewards, units and mean of what can be shown, with the mean's 95 % interval by unit."""

    decisions: int
    rewards: int
    units: int
    mean: float | None
    interval: tuple[float, float] | None


class Holdout(Struct, frozen=True):
    """What the bandit earned beyond its control: the difference of means, and its 95 % interval by
    unit."""

    share: float
    bandit: HoldoutSide
    holdout: HoldoutSide
    benefit: float | None
    interval: tuple[float, float] | None


def holdout(experiment: Experiment, sums: Sums | None) -> Holdout | None:
    """Both sides with their intervals, and the benefit with its own; None without a holdout, and
    before the sums are made.

    The benefit is the difference of means, compared by unit: a unit's many decisions are not
    independent. It is told from two units a side on, which it takes to know how units differ.
    """
    if not experiment.holdout or sums is None:
        return None
    parts = [sums.parts.get(part, Part(0.0)) for part in _SIDES.values()]
    means = np.array([part.mean for part in parts])
    outcomes = of_units(sums.of_units(list(_SIDES.values())), means)
    low, high = interval(outcomes, reward_model(experiment), INTERVAL_ALPHA)
    sides = {
        name: HoldoutSide(
            decisions=sums.decisions[i],
            rewards=parts[i].rewards,
            units=parts[i].count,
            mean=parts[i].mean if parts[i].count else None,
            interval=(float(low[i]), float(high[i])) if outcomes.count[i] else None,
        )
        for i, name in enumerate(_SIDES)
    }
    benefit, ends = None, None
    if outcomes.count.all():
        benefit = float(means[0] - means[1])
        ends = combined(benefit, np.array([1.0, -1.0]), means, low, high)
    return Holdout(share=experiment.holdout, **sides, benefit=benefit, interval=ends)
