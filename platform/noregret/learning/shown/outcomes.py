"""What an arm's own outcomes show: the ones that may be shown, and its intervals, by unit where
units keep their arms. Reads only."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from bandits.inference.intervals import interval, watched_interval
from bandits.inference.units import of_units
from bandits.statistics import ArmStatistics as Statistics
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.rewards import reward_model
from noregret.learning.clock import FOREVER
from noregret.learning.coarsening import Lengths
from noregret.learning.evidence import keeps_units
from noregret.learning.knowledge import statistics_of
from noregret.learning.models import ExperimentEvidence
from noregret.learning.summing import shown_until
from noregret.learning.sums import Sums
from noregret.rest.replica import where_read

INTERVAL_ALPHA = 0.05
Method = Literal["jeffreys", "posterior", "by_unit"]
Ends = tuple[float, float] | None


def closed_until(experiment: Experiment) -> datetime | None:
    """Until when decisions have all the outcomes that they will get: FOREVER without a default;
    None where none has."""
    closed = ExperimentEvidence.objects.values_list("closed_until", flat=True).get(experiment=experiment)
    return shown_until(experiment, closed)


# What is open: whole intervals, and the open part of the one that the last closed bucket ends in,
# which may be long by now (noregret.learning.coarsening), from its rows. Moments merge as
# ArmStatistics do.
_OPEN = """
WITH open AS (
    SELECT arm_id, rewards::float8 AS n, reward_total / rewards AS mean, reward_m2 AS m2 FROM learning_arminterval
    WHERE arm_id = ANY(%(arms)s) AND rewards > 0 AND start >= %(whole)s
    UNION ALL
    SELECT arm_id, count(*), avg(value), var_pop(value) * count(*) FROM serving_reward
    WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND arm_id = ANY(%(arms)s) AND folded AND NOT late
        AND decided_at >= %(since)s AND decided_at < %(whole)s
    GROUP BY arm_id
), means AS (SELECT arm_id, sum(n) AS n, sum(n * mean) / sum(n) AS mean FROM open GROUP BY arm_id)
SELECT arm_id, means.n, means.mean, sum(open.m2 + open.n * power(open.mean - means.mean, 2))
FROM open JOIN means USING (arm_id) GROUP BY arm_id, means.n, means.mean
"""


def own_outcomes(experiment: Experiment, arms: Sequence[Arm]) -> Statistics:
    """The learned moments of arms, by position, over the decisions that can be shown: with a
    default, those whose windows are closed."""
    known = statistics_of(arms)
    until = closed_until(experiment)
    if until is None:
        return Statistics.zeros(len(arms))
    if until == FOREVER:
        return known
    start, seconds = Lengths.of(experiment, ExperimentEvidence.objects.get(experiment=experiment)).interval(until)
    asked: dict[str, Any] = {
        "arms": [arm.pk for arm in arms],
        "experiment": experiment.pk,
        "metric": experiment.reward_.metric,
        "since": until,
        "whole": until if start == until else start + timedelta(seconds=seconds),
    }
    with where_read().cursor() as cursor:
        cursor.execute(_OPEN, asked)
        by_arm = {row[0]: row[1:] for row in cursor.fetchall()}
    rest = [_without(known, i, by_arm.get(arm.pk)) for i, arm in enumerate(arms)]
    return Statistics(*(np.array(part, dtype=np.float64) for part in zip(*rest, strict=True)))


def _without(known: Statistics, i: int, part: tuple[float, float, float] | None) -> tuple[float, float, float]:
    """(count, mean, m2) of an arm without a part of its outcomes: the merge of moments turned
    round."""
    count, mean, m2 = float(known.count[i]), float(known.mean[i]), float(known.m2[i])
    if part is None:
        return count, mean, m2
    part_count, part_mean, part_m2 = part
    rest = count - part_count
    if rest < 0.5:
        return 0.0, 0.0, 0.0
    rest_mean = mean + (mean - part_mean) * part_count / rest
    return rest, rest_mean, max(m2 - part_m2 - (part_mean - rest_mean) ** 2 * part_count * rest / count, 0.0)


def intervals(
    experiment: Experiment, arms: Sequence[Arm], statistics: Statistics, sums: Sums | None
) -> list[tuple[Ends, Ends, Method | None]]:
    """(interval, watched interval, method) of each arm's mean, both of 95 % and in reward units;
    None where nothing can be said.

    `statistics` are the arms' own outcomes, `sums` those over the ledger, without which nothing is
    said where units keep their arm.
    """
    model = reward_model(experiment)
    method: Method = "posterior" if model.bounds is None else "jeffreys"
    outcomes = statistics
    if keeps_units(experiment) and statistics.count.any():
        method = "by_unit"
        outcomes = of_units((sums or Sums()).of_units([arm.pk for arm in arms]), statistics.mean)
    ends = interval(outcomes, model, INTERVAL_ALPHA)
    watched = watched_interval(outcomes, model, INTERVAL_ALPHA)
    return [
        (_finite(ends, i), _finite(watched, i), method) if outcomes.count[i] > 0 else (None, None, None)
        for i in range(len(arms))
    ]


def _finite(ends: tuple[Array, Array], i: int) -> Ends:
    low, high = float(ends[0][i]), float(ends[1][i])
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None
