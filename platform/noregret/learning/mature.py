"""Closes buckets of decision time whose attribution windows are over, and adds them to the experiment's evidence.

A bucket is closed once, in order, when nothing can enter it any more: its window and a grace for what is under way have passed, and the
stream is drained past it. What then has a reward is marked `matured`, and the marks are what `rebuild` replays.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection, transaction
from django.utils import timezone

from bandits.inference.anytime import Evidence
from bandits.reward import RewardModel
from noregret.experiments.models import Experiment
from noregret.experiments.publish import reward_model

from .models import ExperimentEvidence

# Feedback is judged by the database's clock and has two seconds to commit (serving.ledger.rewards).
GRACE_SECONDS = 2.0

Row = tuple[int, list[float], float, datetime]
"""(arm id, propensities by position, value, decided at)"""

_DEFAULTS = """
INSERT INTO serving_reward (
    decision_id, decided_at, metric, experiment_id, arm_id, value, recorded_at, late, defaulted, folded, matured)
SELECT id, decided_at, %(metric)s, experiment_id, arm_id, %(default)s, clock_timestamp(), false, true, false, false
FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s AND fallback_reason IS NULL
ON CONFLICT (decided_at, decision_id, metric) DO NOTHING
"""

# With a unit that keeps its arm its many decisions are no independent trials: its first one counts.
_FIRST_OF_UNIT = """
AND (d.unit IS NULL OR NOT EXISTS (
    SELECT 1 FROM serving_decision AS earlier
    WHERE earlier.experiment_id = d.experiment_id AND earlier.unit = d.unit
    AND (earlier.decided_at, earlier.id) < (d.decided_at, d.id)))
"""

_MARK = """
UPDATE serving_reward AS r SET matured = true
FROM serving_decision AS d
WHERE r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s
AND d.experiment_id = %(experiment)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s
AND r.decided_at >= %(start)s AND r.decided_at < %(end)s
AND NOT r.late AND NOT r.matured AND d.fallback_reason IS NULL
{first_of_unit}
RETURNING d.arm_id, d.propensities, r.value, d.decided_at
"""


def bucket_seconds(experiment: Experiment) -> float:
    """The width of a bucket: a sixtieth of the window, and a second at least."""
    return max(1.0, float(experiment.reward["window_seconds"]) / 60.0)


def floor_to_bucket(at: datetime, width: float) -> datetime:
    return datetime.fromtimestamp(math.floor(at.timestamp() / width) * width, tz=UTC)


def mature(experiment: Experiment, drained_until: datetime) -> int:
    """Close what can be closed; how many outcomes entered. Called under the endpoint's lock."""
    if experiment.started_at is None:
        return 0
    width = bucket_seconds(experiment)
    window = timedelta(seconds=experiment.reward["window_seconds"] + GRACE_SECONDS)
    end = floor_to_bucket(min(drained_until, timezone.now()) - window, width)
    with transaction.atomic():
        held = ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
        start = held.closed_until or floor_to_bucket(experiment.started_at, width)
        if end <= start:
            return 0
        rows = _close(experiment, start, end)
        evidence = replay(experiment, evidence_of(experiment, held), rows)
        ExperimentEvidence.objects.filter(pk=held.pk).update(
            closed_until=end, matured=held.matured + len(rows), state={} if evidence is None else evidence.to_dict()
        )
    return len(rows)


def _close(experiment: Experiment, start: datetime, end: datetime) -> list[Row]:
    reward = experiment.reward
    parameters: dict[str, Any] = {
        "metric": reward["metric"],
        "default": reward["default"],
        "experiment": experiment.pk,
        "start": start,
        "end": end,
    }
    keeps_arm = experiment.strategy == Experiment.Strategy.AB
    with connection.cursor() as cursor:
        if reward["default"] is not None:
            cursor.execute(_DEFAULTS, parameters)
        cursor.execute(_MARK.format(first_of_unit=_FIRST_OF_UNIT if keeps_arm else ""), parameters)
        rows: list[Row] = cursor.fetchall()
    return rows


def bounds_of(experiment: Experiment) -> tuple[RewardModel, tuple[float, float]] | None:
    """The reward and its bounds, or None where it has none, and so no anytime evidence."""
    model = reward_model(experiment)
    return None if model.bounds is None else (model, model.bounds)


def evidence_of(experiment: Experiment, held: ExperimentEvidence) -> Evidence | None:
    """The evidence as it stands; None for a reward without bounds."""
    bounded = bounds_of(experiment)
    if bounded is None:
        return None
    if held.state:
        return Evidence.from_dict(held.state)
    return Evidence.empty(experiment.arms.count(), experiment_indifference(experiment))


def experiment_indifference(experiment: Experiment) -> float:
    return float((experiment.promotion or {}).get("indifference", 0.0))


def replay(experiment: Experiment, evidence: Evidence | None, rows: Sequence[Row]) -> Evidence | None:
    """The evidence after these rows, bucket by bucket in order of decision time."""
    bounded = bounds_of(experiment)
    if evidence is None or bounded is None:
        return None
    model, (low, high) = bounded
    position = {arm: i for i, arm in enumerate(experiment.arms.order_by("position").values_list("pk", flat=True))}
    for bucket in buckets(rows, bucket_seconds(experiment)):
        outcome = (np.array([row[2] for row in bucket]) - low) / (high - low)
        if model.direction == "minimize":
            outcome = 1.0 - outcome
        propensities = np.zeros((len(bucket), evidence.arms))
        for i, row in enumerate(bucket):
            propensities[i, : len(row[1])] = row[1]
        evidence = evidence.observe(np.array([position[row[0]] for row in bucket]), outcome, propensities)
    return evidence


def buckets(rows: Sequence[Row], width: float) -> Iterator[list[Row]]:
    """Rows by bucket of decision time, in order."""
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(math.floor(row[3].timestamp() / width), []).append(row)
    for number in sorted(grouped):
        yield grouped[number]
