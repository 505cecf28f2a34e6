"""Rewards from the ledger into the arms' moments, each exactly once: a row is claimed by its mark
in the transaction that adds it.

Values are added as they were sent: which way is better is the policy's concern. A reward whose
absence means something waits until its bucket is closed (noregret.experiments.rewards).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection, transaction

from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.experiments.rewards import learned_when_matured

from . import quarantine, summing
from .claiming import BATCH, WITHOUT_END, Claimed, claim
from .clock import earliest_decision
from .collector import uncollected
from .kept_arms import note_rewards
from .models import ArmStatistics, ExperimentEvidence
from .totals import RewardIntervals
from .unpublished import Learned, note
from .watched.watches import metrics_of

# Moments of two batches merge as ArmStatistics do.
_ADD_TO_INTERVAL = """
INSERT INTO learning_arminterval AS held (arm_id, start, decisions, rewards, reward_total, reward_m2)
VALUES (%s, %s, 0, %s, %s, %s) ON CONFLICT (arm_id, start) DO UPDATE SET
    rewards = held.rewards + EXCLUDED.rewards,
    reward_total = held.reward_total + EXCLUDED.reward_total,
    reward_m2 = held.reward_m2 + EXCLUDED.reward_m2 + CASE WHEN held.rewards > 0 AND EXCLUDED.rewards > 0 THEN
        power(held.reward_total / held.rewards - EXCLUDED.reward_total / EXCLUDED.rewards, 2)
        * held.rewards * EXCLUDED.rewards::float8 / (held.rewards + EXCLUDED.rewards) ELSE 0 END
"""


_FOLDED_UNTIL = """
UPDATE learning_experimentevidence SET folded_until = %(closed)s
WHERE experiment_id = %(experiment)s AND NOT EXISTS (
    SELECT 1 FROM serving_reward WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND NOT folded AND NOT late
    AND decided_at >= %(since)s AND decided_at < %(closed)s)
"""
# So far behind the closed buckets nothing is expected any more: a reward within its window has
# seconds to commit.
_BEHIND = timedelta(days=1)
_MOVED_BY = timedelta(hours=1)


def fold(experiment: Experiment, learned: Learned = note) -> int:
    """Fold every reward that may be learned, and tell `learned`, batch by batch; how many. Called
    under the endpoint's lock."""
    evidence = ExperimentEvidence.objects.get(experiment=experiment)
    until = evidence.closed_until if learned_when_matured(experiment.reward_) else WITHOUT_END
    if until is None:
        return 0
    metric, since = experiment.reward_.metric, unfolded_since(experiment, evidence)
    watched = metric in metrics_of(experiment)
    total = 0
    while True:
        with transaction.atomic(), uncollected():
            rows = claim(experiment.pk, metric, since, until, watched=watched)
            good = quarantine.without_bad_values(experiment, rows)
            if good:
                # In the order in which everybody locks them; whoever computes the sums anew holds
                # the second.
                Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
                held = ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
                _add(experiment, held, good)
                summing.folded(experiment, good)
                learned(experiment)
        total += len(rows)
        if len(rows) < BATCH:
            break
    _remember(evidence, metric, since)
    return total


def unfolded_since(experiment: Experiment, held: ExperimentEvidence) -> datetime:
    """Every reward of a decision before this is folded: who looks for the others reads no day of
    the ledger before it."""
    return held.folded_until or earliest_decision(experiment)


def _remember(evidence: ExperimentEvidence, metric: str, since: datetime) -> None:
    """Nothing comes for a closed bucket any more but the defaults of stragglers, and who gives them
    turns this back (defaults)."""
    if evidence.closed_until is None:
        return
    closed = evidence.closed_until - _BEHIND
    if evidence.folded_until is not None and closed - evidence.folded_until < _MOVED_BY:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        ExperimentEvidence.objects.select_for_update().get(pk=evidence.pk)
        asked: dict[str, Any] = {
            "experiment": evidence.experiment_id,
            "metric": metric,
            "since": since,
            "closed": closed,
        }
        cursor.execute(_FOLDED_UNTIL, asked)


def _add(experiment: Experiment, evidence: ExperimentEvidence, rows: Sequence[Claimed]) -> None:
    arm_ids = list(Arm.objects.filter(experiment=experiment).order_by("position").values_list("pk", flat=True))
    position = {arm: i for i, arm in enumerate(arm_ids)}
    known = [row for row in rows if row.arm_id in position]
    if not known:
        return
    new = Statistics.from_rewards(
        np.array([position[row.arm_id] for row in known]), np.array([row.value for row in known]), len(arm_ids)
    )
    for arm in ArmStatistics.objects.select_for_update().filter(arm_id__in=arm_ids).order_by("arm_id"):
        i = position[arm.arm_id]
        if not new.count[i]:
            continue
        held = Statistics(np.array([float(arm.rewards)]), np.array([arm.mean]), np.array([arm.m2]))
        merged = held + Statistics(new.count[[i]], new.mean[[i]], new.m2[[i]])
        ArmStatistics.objects.filter(pk=arm.pk).update(
            rewards=int(merged.count[0]), mean=float(merged.mean[0]), m2=float(merged.m2[0])
        )
    note_rewards(evidence, new)
    intervals = RewardIntervals()
    for row in known:
        intervals.add(row.arm_id, row.decided_at, row.value)
    with connection.cursor() as cursor:
        cursor.executemany(
            _ADD_TO_INTERVAL,
            [(arm_id, start, *moments) for (arm_id, start), moments in sorted(intervals.moments().items())],
        )
