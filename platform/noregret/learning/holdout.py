"""What the bandit earned beyond its control, on units that were and were not held out. Reads only."""

from typing import Any

import numpy as np
from django.db import connection

from bandits.inference.intervals import combined, interval
from bandits.inference.units import of_units
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model

from .outcomes import INTERVAL_ALPHA, MOST_BY_UNIT, OfUnits, by_unit, closed_until, unit_sums

_SIDES = ((False, "bandit"), (True, "holdout"))

_COUNTED = """
SELECT d.holdout, count(*)::bigint FROM serving_decision AS d WHERE d.experiment_id = %(experiment)s GROUP BY d.holdout
"""


def holdout(experiment: Experiment) -> dict[str, Any] | None:
    """Both sides with their intervals, and the benefit with its own; None without a holdout.

    The benefit is the difference of means, compared by unit: a unit's many decisions are not independent. It is told from two units a side
    on, which it takes to know how units differ, and up to a number of decisions that can be counted while somebody waits.
    """
    if not experiment.holdout:
        return None
    until = closed_until(experiment)
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED, {"experiment": experiment.pk})
        decisions: dict[bool, int] = dict(cursor.fetchall())
    of_sides: dict[bool, OfUnits] = {}
    if until is not None and sum(decisions.values()) <= MOST_BY_UNIT:
        of_sides = by_unit(experiment, "d.holdout", until)
    parts = [of_sides.get(held_out, OfUnits()) for held_out, _ in _SIDES]
    means = np.array([part.mean for part in parts])
    outcomes = of_units(unit_sums(parts), means)
    low, high = interval(outcomes, reward_model(experiment), INTERVAL_ALPHA)
    sides = {
        name: {
            "decisions": decisions.get(held_out, 0),
            "rewards": int(parts[i].rewards),
            "units": parts[i].units,
            "mean": parts[i].mean if parts[i].units else None,
            "interval": [float(low[i]), float(high[i])] if outcomes.count[i] else None,
        }
        for i, (held_out, name) in enumerate(_SIDES)
    }
    benefit, ends = None, None
    if outcomes.count.all():
        benefit = float(means[0] - means[1])
        ends = list(combined(benefit, np.array([1.0, -1.0]), means, low, high))
    return {"share": experiment.holdout, **sides, "benefit": benefit, "interval": ends}
