"""What an arm's own outcomes show: the ones that may be shown, and its intervals, by unit where units keep their arms. Reads only."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
from django.db import connection

from bandits.inference.intervals import interval, watched_interval
from bandits.inference.units import UnitSums, of_units
from bandits.statistics import ArmStatistics as Statistics
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.rewards import reward_model

from .knowledge import statistics_of
from .models import ArmStatistics, ExperimentEvidence
from .weighing import units_count_once

INTERVAL_ALPHA = 0.05
# More decisions than this are not counted by unit while somebody waits for the answer.
MOST_BY_UNIT = 250_000

FOREVER = datetime.max.replace(tzinfo=UTC)

Method = Literal["jeffreys", "posterior", "by_unit", "too_many_decisions"]
Ends = list[float] | None


def closed_until(experiment: Experiment) -> datetime | None:
    """Until when decisions have all the outcomes that they will get: FOREVER without a default; None where none has.

    With a default the good ones come at once and the defaults at the end of the window, so what is open looks better than it is.
    """
    if experiment.reward["default"] is None:
        return FOREVER
    return ExperimentEvidence.objects.values_list("closed_until", flat=True).get(experiment=experiment)


# Moments of many intervals merge as ArmStatistics do. No interval is longer than a day (noregret.learning.coarsening).
_OPEN = """
WITH open AS (
    SELECT arm_id, rewards::float8 AS n, reward_total / rewards AS mean, reward_m2 AS m2 FROM learning_arminterval
    WHERE arm_id = ANY(%(arms)s) AND rewards > 0
        AND start > %(since)s::timestamptz - interval '1 day' AND start + make_interval(secs => seconds) > %(since)s
), means AS (SELECT arm_id, sum(n) AS n, sum(n * mean) / sum(n) AS mean FROM open GROUP BY arm_id)
SELECT arm_id, means.n, means.mean, sum(open.m2 + open.n * power(open.mean - means.mean, 2))
FROM open JOIN means USING (arm_id) GROUP BY arm_id, means.n, means.mean
"""


def own_outcomes(experiment: Experiment, arms: Sequence[Arm]) -> Statistics:
    """The learned moments of arms, by position, over the decisions that can be shown: with a default, those whose windows are closed."""
    known = statistics_of(arms)
    until = closed_until(experiment)
    if until is None:
        return Statistics.zeros(len(arms))
    if until == FOREVER:
        return known
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, {"arms": [arm.pk for arm in arms], "since": until})
        by_arm = {row[0]: row[1:] for row in cursor.fetchall()}
    rest = [_without(known, i, by_arm.get(arm.pk)) for i, arm in enumerate(arms)]
    return Statistics(*(np.array(part, dtype=np.float64) for part in zip(*rest, strict=True)))


def _without(known: Statistics, i: int, part: tuple[float, float, float] | None) -> tuple[float, float, float]:
    """(count, mean, m2) of an arm without a part of its outcomes: the merge of moments turned round."""
    count, mean, m2 = float(known.count[i]), float(known.mean[i]), float(known.m2[i])
    if part is None:
        return count, mean, m2
    part_count, part_mean, part_m2 = part
    rest = count - part_count
    if rest < 0.5:
        return 0.0, 0.0, 0.0
    rest_mean = mean + (mean - part_mean) * part_count / rest
    return rest, rest_mean, max(m2 - part_m2 - (part_mean - rest_mean) ** 2 * part_count * rest / count, 0.0)


def keeps_units(experiment: Experiment) -> bool:
    """Do units keep their arms, so that the outcomes of an arm hang together?"""
    return units_count_once(experiment) or experiment.holdout > 0


# Kept apart, so that units are found by one join and one grouping whatever the planner expects; values are taken from the mean, so that
# sums of squares far from 0 lose nothing. A decision without a unit is one of its own.
_BY_UNIT = """
WITH rewarded AS MATERIALIZED (
    SELECT {part} AS part, d.unit, CASE WHEN d.unit IS NULL THEN d.id END AS id, r.value
    FROM serving_reward AS r
    JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
    WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND r.folded AND NOT r.late AND r.decided_at < %(until)s
), means AS MATERIALIZED (SELECT part, avg(value) AS mean FROM rewarded GROUP BY part
), units AS MATERIALIZED (
    SELECT part, count(*)::float8 AS n, sum(value - means.mean) AS residual FROM rewarded JOIN means USING (part)
    GROUP BY part, unit, id
)
SELECT part, means.mean, count(*), sum(n), sum(n * n), sum(residual * residual)
FROM units JOIN means USING (part) GROUP BY part, means.mean
"""


class OfUnits(NamedTuple):
    """Units, their rewards' mean, and the sums by which they are weighed: of an arm, or of another part of an experiment's rewards."""

    mean: float = 0.0
    units: int = 0
    rewards: float = 0.0
    squared_count: float = 0.0
    squared_residual: float = 0.0


def by_unit(experiment: Experiment, part: Literal["r.arm_id", "d.holdout"], until: datetime) -> dict[Any, OfUnits]:
    """The units of each part, over learned rewards of decisions before `until`."""
    parameters = {"experiment": experiment.pk, "metric": experiment.reward["metric"], "until": until}
    with connection.cursor() as cursor:
        cursor.execute(_BY_UNIT.format(part=part), parameters)
        return {key: OfUnits(*numbers) for key, *numbers in cursor.fetchall()}


def unit_sums(parts: Sequence[OfUnits]) -> UnitSums:
    """As one value, by position."""
    sums = [(part.rewards, part.squared_count, part.squared_residual) for part in parts]
    return UnitSums(*np.array(sums, dtype=np.float64).T)


def intervals(
    experiment: Experiment, arms: Sequence[Arm], statistics: Statistics
) -> list[tuple[Ends, Ends, Method | None]]:
    """(interval, watched interval, method) of each arm's mean, both of 95 % and in reward units; None where nothing can be said.

    `statistics` are the arms' own outcomes.
    """
    model = reward_model(experiment)
    method: Method = "posterior" if model.bounds is None else "jeffreys"
    outcomes = statistics
    if keeps_units(experiment) and statistics.count.any():
        method = "by_unit"
        if _decisions(arms) > MOST_BY_UNIT:
            return [(None, None, "too_many_decisions") for _ in arms]
        units = by_unit(experiment, "r.arm_id", closed_until(experiment) or FOREVER)
        outcomes = of_units(unit_sums([units.get(arm.pk, OfUnits()) for arm in arms]), statistics.mean)
    ends = interval(outcomes, model, INTERVAL_ALPHA)
    watched = watched_interval(outcomes, model, INTERVAL_ALPHA)
    return [
        (_finite(ends, i), _finite(watched, i), method) if outcomes.count[i] > 0 else (None, None, None)
        for i in range(len(arms))
    ]


def _decisions(arms: Sequence[Arm]) -> int:
    return sum(ArmStatistics.objects.filter(arm__in=arms).values_list("decisions", flat=True))


def _finite(ends: tuple[Array, Array], i: int) -> Ends:
    low, high = float(ends[0][i]), float(ends[1][i])
    return [low, high] if np.isfinite(low) and np.isfinite(high) else None
