"""What the bandit earned beyond its control, on units that were and were not held out. Reads only."""

from typing import Any

import numpy as np
from django.db import connection

from bandits.inference.intervals import combined, interval
from bandits.inference.units import UnitSums, of_units
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model

from .outcomes import INTERVAL_ALPHA, MOST_BY_UNIT, closed_until

_SIDES = ((False, "bandit"), (True, "holdout"))

_COUNTED = """
SELECT d.holdout, count(*)::float8 FROM serving_decision AS d WHERE d.experiment_id = %(experiment)s GROUP BY d.holdout
"""
# A unit is on one side for the whole experiment, and its rewards hang together: sums a unit. A decision without one is one of its own.
_BY_UNIT = """
WITH rewarded AS (
    SELECT d.holdout, d.unit, d.id, r.value
    FROM serving_reward AS r
    JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
    WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND r.folded AND NOT r.late
        AND r.decided_at < %(until)s
), means AS (SELECT holdout, avg(value) AS mean FROM rewarded GROUP BY holdout
), units AS (
    SELECT holdout, count(*)::float8 AS n, sum(value - means.mean) AS residual FROM rewarded JOIN means USING (holdout)
    GROUP BY holdout, unit, CASE WHEN unit IS NULL THEN id END
)
SELECT holdout, means.mean, count(*), sum(n), sum(n * n), sum(residual * residual)
FROM units JOIN means USING (holdout) GROUP BY holdout, means.mean
"""


def holdout(experiment: Experiment) -> dict[str, Any] | None:
    """Both sides with their intervals, and the benefit with its own; None without a holdout.

    The benefit is the difference of means, compared by unit: a unit's many decisions are not independent. It is told from two units a side
    on, which it takes to know how units differ, and up to a number of decisions that can be counted while somebody waits.
    """
    if not experiment.holdout:
        return None
    until = closed_until(experiment)
    parameters = {"experiment": experiment.pk, "metric": experiment.reward["metric"], "until": until}
    rows: dict[bool, tuple[Any, ...]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED, parameters)
        decisions: dict[bool, float] = dict(cursor.fetchall())
        if until is not None and sum(decisions.values()) <= MOST_BY_UNIT:
            cursor.execute(_BY_UNIT, parameters)
            rows = {row[0]: row[1:] for row in cursor.fetchall()}
    means, units, counts, squares, residuals = (
        np.array([float(rows[held_out][i]) if held_out in rows else 0.0 for held_out, _ in _SIDES]) for i in range(5)
    )
    outcomes = of_units(UnitSums(counts, squares, residuals), means)
    low, high = interval(outcomes, reward_model(experiment), INTERVAL_ALPHA)
    sides = {
        name: {
            "decisions": int(decisions.get(held_out, 0)),
            "rewards": int(counts[i]),
            "units": int(units[i]),
            "mean": float(means[i]) if counts[i] else None,
            "interval": [float(low[i]), float(high[i])] if outcomes.count[i] else None,
        }
        for i, (held_out, name) in enumerate(_SIDES)
    }
    benefit, ends = None, None
    if outcomes.count.all():
        benefit = float(means[0] - means[1])
        ends = list(combined(benefit, np.array([1.0, -1.0]), means, low, high))
    return {"share": experiment.holdout, **sides, "benefit": benefit, "interval": ends}
