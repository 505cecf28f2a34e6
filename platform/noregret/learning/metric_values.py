"""What feedback on a metric, and failing decisions, say against a limit: sums over the ledger, computed where the values are.

No value leaves the database: a query returns, for each arm, how many there are and what each bet of a grid has won on them
(`bandits.inference.betting`, whose formulas the expressions here repeat). Values are cut at 1e100 before they are summed, so that one of
1e160 takes no sum out of what a float can hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection

from bandits.inference.betting import STAKES, Scale, Wagers
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment

LARGEST = 1e100
STRATUM_VALUES = 20
STRATUM_DECISIONS = 50
"""A stratum has at least so many values or decisions of the two arms; smaller ones would often have one arm alone, and tell nothing."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a metric for one arm: how many, their mean and their ends."""

    count: float
    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Compared:
    """An arm's values beside the control's: how many entered the comparison, the difference of their means, and what the bets have won.

    `difference` is the strata's, weighted by how much each can tell: that of the plain means would also hold what drift did to both.
    """

    own: float
    control: float
    difference: float
    wagers: Wagers


@dataclass(frozen=True, slots=True)
class Failures:
    """Counts by stratum, each (S,)."""

    own_failed: Array
    own: Array
    control_failed: Array
    control: Array


NO_FAILURES = Failures(*(np.zeros(0) for _ in range(4)))

_ENDS = """
SELECT arm_id, count(*)::float8, avg(value), min(value), max(value) FROM (
    SELECT arm_id, greatest(least(value, %(highest)s), %(lowest)s)::float8 AS value
    FROM serving_reward WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND NOT late
) AS cut GROUP BY arm_id
"""


def values_of(experiment: Experiment, metric: str, minimum: float | None, maximum: float | None) -> dict[int, Values]:
    """By arm id; an arm for which nothing came has no entry. Values beyond the declared bounds count as the bound."""
    with connection.cursor() as cursor:
        cursor.execute(_ENDS, _parameters(experiment, metric) | _cut(minimum, maximum))
        return {row[0]: Values(*row[1:]) for row in cursor.fetchall()}


def _parameters(experiment: Experiment, metric: str) -> dict[str, Any]:
    return {"experiment": experiment.pk, "metric": metric}


def _cut(minimum: float | None, maximum: float | None) -> dict[str, float]:
    return {
        "lowest": -LARGEST if minimum is None else max(minimum, -LARGEST),
        "highest": LARGEST if maximum is None else min(maximum, LARGEST),
    }


_WON = ", ".join(f"sum(ln(1 + {float(stake)!r} * gain))" for stake in STAKES)

_ABOVE = f"""
SELECT arm_id, {_WON} FROM (
    SELECT arm_id,
        greatest((%(sign)s * greatest(least(value, %(highest)s), %(lowest)s) - %(limit)s) / %(far)s, -1)::float8 AS gain
    FROM serving_reward WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND NOT late
) AS wagered GROUP BY arm_id
"""  # noqa: S608 - constants


def wagers_above(
    experiment: Experiment,
    metric: str,
    limit: float,
    far: float,
    *,
    sign: float,
    minimum: float | None,
    maximum: float | None,
) -> dict[int, Wagers]:
    """Bets that the mean of `sign` times the values is more than `limit`, by arm id (`betting.gains_above`)."""
    asked = {"limit": limit, "far": far, "sign": sign} | _cut(minimum, maximum)
    with connection.cursor() as cursor:
        cursor.execute(_ABOVE, _parameters(experiment, metric) | asked)
        return {row[0]: Wagers(np.array(row[1:], dtype=np.float64)) for row in cursor.fetchall()}


# One policy version decided all of a stratum, or as many in a row as it takes to have enough values: no outcome of it steered it. By
# windows, not joins: of rows that were just written the planner knows nothing, and joining 20,000 with themselves took it two minutes.
_DIFFERENCE = f"""
WITH firsts AS (
    SELECT DISTINCT ON (unit) id FROM serving_decision
    WHERE experiment_id = %(experiment)s AND unit IS NOT NULL AND %(keeps_arm)s ORDER BY unit, decided_at, id
), compared AS (
    SELECT d.policy_version AS version, r.arm_id = %(own)s AS own,
        greatest(least(%(sign)s * r.value, %(highest)s), %(lowest)s)::float8 AS value
    FROM serving_reward AS r JOIN serving_decision AS d ON d.decided_at = r.decided_at AND d.id = r.decision_id
    WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late
        AND r.arm_id IN (%(own)s, %(control)s) AND NOT d.holdout
        AND (d.unit IS NULL OR NOT %(keeps_arm)s OR d.id IN (SELECT id FROM firsts))
), placed AS (
    SELECT version, own, value, floor(
        (count(*) OVER (ORDER BY version) - count(*) OVER (PARTITION BY version)) / %(size)s
    ) AS stratum FROM compared
), numbered AS (
    SELECT own, value, avg(own::int) OVER (PARTITION BY stratum)::float8 AS share,
        dense_rank() OVER (ORDER BY stratum) AS nth FROM placed
), wagered AS (
    SELECT own, value, share, coalesce(avg(value) OVER before, %(middle)s) AS middle FROM numbered
    WINDOW before AS (ORDER BY nth RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING)
), weighed AS (
    SELECT own, share * (1 - share) AS both_share, CASE WHEN own THEN 1 - share ELSE -share END * (value - middle) AS counted,
        greatest((1 - share) * (middle - %(lowest)s), share * (%(highest)s - middle))
        + share * (1 - share) * greatest(%(limit)s, 0) AS worst
    FROM wagered
), won AS (
    SELECT own, both_share, counted, CASE WHEN both_share > 0
        THEN greatest(-1, (counted - both_share * %(limit)s) / worst) ELSE 0 END::float8 AS gain FROM weighed
)
SELECT count(*) FILTER (WHERE own)::float8, count(*) FILTER (WHERE NOT own)::float8,
    sum(counted) / nullif(sum(both_share), 0), {_WON} FROM won
"""  # noqa: S608 - constants


def difference(
    experiment: Experiment, metric: str, own: Arm, control: Arm, limit: float, scale: Scale, *, sign: float
) -> Compared | None:
    """Bets that the mean of `sign` times the values is more than `limit` above the control's; None where there are none yet.

    Where a unit keeps its arm its first decision counts, as for the evidence: its many values are no independent trials.
    """
    keeps_arm = experiment.strategy in (Experiment.Strategy.AB, Experiment.Strategy.CANARY) or experiment.sticky
    asked = {
        "own": own.pk,
        "control": control.pk,
        "keeps_arm": keeps_arm,
        "size": STRATUM_VALUES,
        "sign": sign,
        "limit": limit,
        "middle": scale.middle,
        "lowest": scale.minimum,
        "highest": scale.maximum,
    }
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENCE, _parameters(experiment, metric) | asked)
        own_count, control_count, found, *won = cursor.fetchone()
    if found is None:
        return None
    return Compared(own_count, control_count, sign * found, Wagers(np.array(won, dtype=np.float64)))


# Intervals of decision time, as many in a row as it takes; none crosses an instant at which the split changed.
_FAILURES = """
WITH both_arms AS (
    SELECT width_bucket(start, %(cuts)s::timestamptz[]) AS part, start,
        coalesce(sum(failures) FILTER (WHERE arm_id = %(own)s), 0) AS own_failed,
        coalesce(sum(decisions) FILTER (WHERE arm_id = %(own)s), 0) AS own,
        coalesce(sum(failures) FILTER (WHERE arm_id = %(control)s), 0) AS control_failed,
        coalesce(sum(decisions) FILTER (WHERE arm_id = %(control)s), 0) AS control
    FROM learning_arminterval WHERE arm_id IN (%(own)s, %(control)s) GROUP BY start
), numbered AS (
    SELECT *, floor((sum(own + control) OVER (PARTITION BY part ORDER BY start) - own - control) / %(size)s) AS stratum
    FROM both_arms
)
SELECT sum(own_failed)::float8, sum(own)::float8, sum(control_failed)::float8, sum(control)::float8
FROM numbered GROUP BY part, stratum
"""


def failures_beside(own: Arm, control: Arm, cuts: Sequence[datetime]) -> Failures:
    """An arm's failures beside the control's. `cuts`: when the split was changed, at least one instant."""
    asked: dict[str, Any] = {"own": own.pk, "control": control.pk, "cuts": sorted(cuts), "size": STRATUM_DECISIONS}
    with connection.cursor() as cursor:
        cursor.execute(_FAILURES, asked)
        counts = np.array(cursor.fetchall(), dtype=np.float64).reshape(-1, 4)
    return Failures(*counts.T)
