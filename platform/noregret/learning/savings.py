"""What the traffic of a bandit or a split earned beyond an even split of it: sums over the ledger by weight. Reads only.

The sums are values that add (bandits.inference.even_split), so that they can be kept as decisions come; read from the ledger, they are told
up to a bound on what is read, rather than keep somebody waiting.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db import connection

from bandits.inference.even_split import EvenSplit, Saved, saved
from bandits.inference.units import of_units
from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import made_policy
from noregret.experiments.rewards import reward_model

from .models import ArmStatistics
from .outcomes import INTERVAL_ALPHA, OfUnits, closed_until, keeps_units, unit_sums

# Propensities that are read while somebody waits for the answer: decisions times arms.
MOST_PROPENSITIES = 500_000

# Decisions that were drawn alike are taken together first: a snapshot's have the same probabilities. Values are taken from the arm's mean.
_DRAWN = """
WITH drawn AS MATERIALIZED (
    SELECT d.arm_id, d.propensity, d.propensities, d.unit, d.id, r.value - centre.mean AS value
    FROM serving_reward AS r
    JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
    JOIN unnest(%(arms)s::bigint[], %(means)s::float8[]) AS centre (arm_id, mean) ON centre.arm_id = r.arm_id
    WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND r.folded AND NOT r.late
        AND d.fallback_reason IS NULL AND NOT d.holdout AND d.propensity > 0
        AND r.decided_at < %(until)s
)
"""
_SUMS = """
{drawn}, alike AS (
    SELECT arm_id, propensity, propensities, count(*)::float8 AS n, sum(value) AS total, sum(value * value) AS squares,
        (SELECT count(*) FROM unnest(propensities) AS p WHERE p > 0)::float8 AS chances
    FROM drawn GROUP BY arm_id, propensity, propensities
), weighed AS (SELECT *, 1 / (chances * propensity) AS w FROM alike)
SELECT arm_id, NULL::bigint AS seat, sum(n), sum(total), sum(squares), sum(n * w), sum(w * total), sum(w * squares),
    sum(n * w * w), sum(w * w * total), sum(w * w * squares)
FROM weighed GROUP BY arm_id
UNION ALL SELECT NULL, seat, sum(n / chances), 0, 0, 0, 0, 0, 0, 0, 0
FROM weighed, unnest(propensities) WITH ORDINALITY AS u (share, seat) WHERE share > 0 GROUP BY seat
"""
# As noregret.learning.outcomes counts units, with weights.
_BY_UNIT = """
{drawn}, weighed AS (
    SELECT arm_id, unit, CASE WHEN unit IS NULL THEN id END AS id, value,
        1 / ((SELECT count(*) FROM unnest(propensities) AS p WHERE p > 0) * propensity) AS w FROM drawn
), units AS MATERIALIZED (SELECT arm_id, sum(w) AS n, sum(w * value) AS total FROM weighed GROUP BY arm_id, unit, id
), means AS MATERIALIZED (SELECT arm_id, sum(total) / sum(n) AS mean FROM units GROUP BY arm_id)
SELECT arm_id, means.mean, count(*), sum(n), sum(n * n), sum(power(total - means.mean * n, 2))
FROM units JOIN means USING (arm_id) GROUP BY arm_id, means.mean
"""


def against_even_split(experiment: Experiment, arms: Sequence[Arm], statistics: Statistics) -> Saved | None:
    """Reward earned beyond what the same rewarded decisions, split evenly over the arms that had a chance, would have.

    `statistics`: the arms' own outcomes. None where it can't be known: no probabilities between 0 and 1 (a deterministic policy without
    a floor), an arm without a reward, more decisions than can be read. None for a canary, a shadow and an apprentice: no split to earn by.
    """
    until = closed_until(experiment)
    if until is None or not _splits(experiment):
        return None
    decisions = sum(ArmStatistics.objects.filter(arm__in=arms).values_list("decisions", flat=True))
    if decisions * len(arms) > MOST_PROPENSITIES:
        return None
    parameters = {
        "experiment": experiment.pk,
        "metric": experiment.reward["metric"],
        "arms": [arm.pk for arm in arms],
        "means": statistics.mean.tolist(),
        "until": until,
    }
    sums = _sums(arms, statistics, parameters)
    means = None
    if keeps_units(experiment):
        with connection.cursor() as cursor:
            cursor.execute(_BY_UNIT.format(drawn=_DRAWN), parameters)
            units = {key: OfUnits(*numbers) for key, *numbers in cursor.fetchall()}
        means = of_units(unit_sums([units.get(arm.pk, OfUnits()) for arm in arms]), sums.moments.mean[1])
        if not (means.count[sums.share > 0] > 0).all():
            return None
    return saved(sums, reward_model(experiment), INTERVAL_ALPHA, means)


def _splits(experiment: Experiment) -> bool:
    """Does each request have a chance of several arms, with a probability that was logged?"""
    if experiment.strategy == Experiment.Strategy.AB:
        return True
    policy, made = experiment.policy, made_policy(experiment)
    if experiment.strategy != Experiment.Strategy.BANDIT or policy is None or made is None or experiment.apprentice:
        return False
    return not made.counts_own_pulls or policy["floor"] > 0.0


def _sums(arms: Sequence[Arm], statistics: Statistics, parameters: dict[str, Any]) -> EvenSplit:
    position = {arm.pk: i for i, arm in enumerate(arms)}
    moments, share = Statistics.zeros(3, len(arms)), np.zeros(len(arms))
    with connection.cursor() as cursor:
        cursor.execute(_SUMS.format(drawn=_DRAWN), parameters)
        rows = cursor.fetchall()
    for arm, seat, *numbers in rows:
        if arm is None:
            if seat <= len(arms):
                share[seat - 1] = numbers[0]
            continue
        i = position[arm]
        for power in range(3):
            count, total, squares = numbers[3 * power : 3 * power + 3]
            moments.count[power, i] = count
            moments.mean[power, i] = statistics.mean[i] + total / count
            moments.m2[power, i] = max(squares - total**2 / count, 0.0)
    return EvenSplit(moments, share)
