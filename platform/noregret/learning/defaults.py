"""Default rewards: what a decision gets whose bucket was closed without feedback, where silence has
a meaning."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from noregret.experiments.models import Experiment
from serving.ledger.ingest import StreamedDecision

from .models import ExperimentEvidence

_OF_BUCKETS = """
(SELECT id, decided_at, arm_id FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s AND fallback_reason IS NULL)
"""
_LISTED = "unnest(%(ids)s::uuid[], %(times)s::timestamptz[], %(arms)s::bigint[])"

_DEFAULTS = """
INSERT INTO serving_reward (
    decision_id, decided_at, metric, experiment_id, arm_id, value, recorded_at, late, defaulted, folded, matured)
SELECT id, decided_at, %(metric)s, %(experiment)s, arm_id, %(default)s, clock_timestamp(), false, true, false, false
FROM {decisions} AS d (id, decided_at, arm_id)
ON CONFLICT (decided_at, decision_id, metric) DO NOTHING
"""

# Feedback that came too late left a row that was never learned: the default takes its place, and
# keeps it as `late_value`. After the insert, so that a late row which made it do nothing is seen;
# not by its DO UPDATE, which would lock every rewarded row.
_DEFAULTS_FOR_LATE = """
UPDATE serving_reward AS r
SET value = %(default)s, late_value = r.value, recorded_at = clock_timestamp(), late = false, defaulted = true, summed = false
FROM {decisions} AS d (id, decided_at, arm_id)
WHERE r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND r.late
AND r.experiment_id = %(experiment)s AND r.decided_at >= %(start)s AND r.decided_at < %(end)s
"""


def span_parameters(experiment: Experiment, start: datetime, end: datetime) -> dict[str, Any]:
    """What statements over the buckets of [start, end) are given."""
    reward = experiment.reward_
    return {
        "metric": reward.metric,
        "default": reward.default,
        "experiment": experiment.pk,
        "start": start,
        "end": end,
    }


def give_defaults(parameters: dict[str, Any]) -> None:
    """To every decision of these buckets that its arm served and nobody answered."""
    _give(_OF_BUCKETS, parameters)


def _give(decisions: str, parameters: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_DEFAULTS.format(decisions=decisions), parameters)
        cursor.execute(_DEFAULTS_FOR_LATE.format(decisions=decisions), parameters)


def give_defaults_to_stragglers(held: ExperimentEvidence, decisions: Sequence[StreamedDecision]) -> None:
    """Default rewards for those of new decisions whose bucket is closed; in the transaction that
    inserts them.

    Without them only what was rewarded among such decisions would be learned: every arm would look
    better than it is. What the arm could not serve gets none.
    """
    closed = held.closed_until
    if closed is None or held.experiment.reward_.default is None:
        return
    late = [one for one in decisions if one.event.fallback_reason is None and one.decided_at < closed]
    if not late:
        return
    times = [one.decided_at for one in late]
    listed = {"ids": [one.id for one in late], "times": times, "arms": [one.event.arm_id for one in late]}
    _give(_LISTED, span_parameters(held.experiment, min(times), closed) | listed)
    ExperimentEvidence.objects.filter(pk=held.pk, folded_until__gt=min(times)).update(folded_until=min(times))
