"""Decisions and rewards made by SQL, as if they had been served and learned: millions in minutes.

Each decision's id begins with its time, as real ones do. A unit decides about ten times. Where the
experiment declares fields, a decision's context has a country (KR, US, DE) and an age (18 to 77).
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from noregret.experiments.models import Experiment
from noregret.learning.evidence import units_count_once
from serving.ledger import partitions

CHUNK = 500_000
DECISIONS_A_SECOND = 6.0
"""How dense history is: a busy endpoint. What is summed by time has so many rows in each bucket."""

DECISIONS = """
INSERT INTO serving_decision (id, decided_at, experiment_id, arm_id, propensities, propensity, policy_version, unit, context,
    latency_ms, holdout, trial)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000000)::bigint), 16, '0') || substr(md5(%(salt)s || i::text), 1, 16))::uuid,
    at, %(experiment)s,
    (%(arms)s::bigint[])[CASE WHEN %(shadow)s OR held_out THEN 1 ELSE 1 + i %% cardinality(%(arms)s::bigint[]) END],
    CASE WHEN %(shadow)s THEN ARRAY[1.0, 0.0] ELSE array_fill(%(propensity)s::float8, ARRAY[cardinality(%(arms)s::bigint[])]) END,
    CASE WHEN %(shadow)s THEN 1.0 ELSE %(propensity)s END,
    1 + extract(epoch FROM at)::bigint / 60, unit,
    CASE WHEN %(context)s THEN jsonb_build_object('country', (ARRAY['KR', 'US', 'DE'])[1 + (i / 7) %% 3], 'age', 18 + (i / 11) %% 60) END,
    1 + random(), held_out, NOT held_out AND (NOT %(once)s OR i < %(units)s)
FROM (
    SELECT i, %(start)s::timestamptz + make_interval(secs => i * %(step)s) AS at, 'u' || (i %% %(units)s) AS unit,
        %(holdout)s > 0 AND i %% 10 = 0 AS held_out
    FROM generate_series(%(from)s, %(count)s - 1) AS i
) AS made ON CONFLICT DO NOTHING
"""
VISITS = """
INSERT INTO serving_firstvisit (experiment_id, unit, decision_id)
SELECT experiment_id, unit, id FROM serving_decision WHERE experiment_id = %(experiment)s AND trial ON CONFLICT DO NOTHING
"""
REWARDS = """
INSERT INTO serving_reward (decision_id, decided_at, metric, experiment_id, arm_id, value, recorded_at, late, defaulted, folded, matured,
    summed)
SELECT id, decided_at, %(metric)s, experiment_id, arm_id,
    CASE WHEN %(metric)s = 'cost' THEN 2 * random() * (1 + random()) ELSE (random() < 0.1)::int END,
    decided_at + interval '2 seconds', false, false, %(learned)s, %(learned)s AND trial AND %(metric)s = 'reward',
    %(learned)s AND %(metric)s = 'reward'
FROM serving_decision WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s
ON CONFLICT DO NOTHING
"""


def parameters(experiment: Experiment, count: int) -> dict[str, Any]:
    """What DECISIONS, VISITS and REWARDS need of an experiment; start, end, step and learned
    aside."""
    arms = list(experiment.arms.order_by("position").values_list("pk", flat=True))
    return {
        "experiment": experiment.pk,
        "arms": arms,
        "propensity": 1.0 / len(arms),
        "from": 0,
        "count": count,
        "units": max(count // 10, 1),
        "salt": str(experiment.pk),
        "holdout": experiment.holdout,
        "shadow": experiment.strategy == "shadow",
        "once": units_count_once(experiment),
        "context": bool(experiment.context_.fields),
    }


def span_of(rows: int) -> timedelta:
    """How far back so many rows reach, half of them decisions."""
    return timedelta(seconds=rows / 2 / DECISIONS_A_SECOND)


def begin_earlier(experiment: Experiment, rows: int) -> None:
    """As if it had been started early enough for so many rows. Before its first decision."""
    Experiment.objects.filter(pk=experiment.pk).update(started_at=timezone.now() - span_of(rows))


def make_days(start: datetime) -> None:
    """The ledger's partitions from then on."""
    with transaction.atomic(), connection.cursor() as cursor:
        partitions.ensure(cursor, start.date(), timezone.now().date() + timedelta(days=1))


def write(experiment: Experiment, rows: int) -> int:
    """About `rows` rows from the experiment's start on, half decisions and half their rewards; how
    many there were made."""
    start = experiment.started_at
    assert start is not None
    make_days(start)
    count = rows // 2
    named = parameters(experiment, count) | {"start": start, "learned": True, "metric": "reward"}
    named["step"] = 1.0 / DECISIONS_A_SECOND
    made = 0
    for first in range(0, count, CHUNK):
        last = min(first + CHUNK, count)
        reach = {
            "start": start + timedelta(seconds=named["step"] * first),
            "end": start + timedelta(seconds=named["step"] * last),
        }
        with connection.cursor() as cursor:
            cursor.execute(DECISIONS, named | {"from": first, "count": last})
            made += cursor.rowcount
            cursor.execute(REWARDS, named | reach)
            made += cursor.rowcount
    with connection.cursor() as cursor:
        for table in partitions.TABLES:
            cursor.execute(f"VACUUM ANALYZE {table}")
    return made
