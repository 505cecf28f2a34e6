"""Rewards from the ledger into the arms' moments, each exactly once: a row is claimed by its mark in the transaction that adds it.

Values are added as they were sent: which way is better is the policy's concern. A reward whose absence means something waits until
its bucket is closed (noregret.experiments.rewards).
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from django.db import connection, transaction

from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.rewards import learned_when_matured

from .models import ArmStatistics, ExperimentEvidence
from .publishing import learned
from .totals import RewardIntervals
from .watches import metrics_of

BATCH = 20_000

# The conditions stand twice: without them outside, rows would be looked for in the whole ledger and not in the index `reward_to_fold`.
_CLAIM = """
UPDATE serving_reward SET folded = true, summed = summed OR NOT %(watched)s
WHERE (decided_at, decision_id, metric) IN (
    SELECT decided_at, decision_id, metric FROM serving_reward
    WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND NOT folded AND NOT late
    AND decided_at < %(until)s::timestamptz
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
AND experiment_id = %(experiment)s AND NOT folded AND NOT late AND decided_at < %(until)s::timestamptz
RETURNING arm_id, decided_at, value
"""


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


def fold(experiment: Experiment) -> int:
    """Fold every reward that may be learned, and publish what follows from it; how many. Called under the endpoint's lock."""
    until = _learnable_until(experiment)
    if until is None:
        return 0
    # What is watched is claimed for its sums apart (noregret.learning.watching).
    watched = experiment.reward["metric"] in metrics_of(experiment)
    total = 0
    while True:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(
                    _CLAIM,
                    {
                        "experiment": experiment.pk,
                        "metric": experiment.reward["metric"],
                        "limit": BATCH,
                        "until": until,
                        "watched": watched,
                    },
                )
                rows = cursor.fetchall()
            if rows:
                _add(experiment, rows)
                learned(experiment)
        total += len(rows)
        if len(rows) < BATCH:
            return total


def _learnable_until(experiment: Experiment) -> str | datetime | None:
    """Rewards of decisions before this are learned; None where there are none yet."""
    if not learned_when_matured(experiment.reward):
        return "infinity"
    return ExperimentEvidence.objects.values_list("closed_until", flat=True).get(experiment=experiment)


def _add(experiment: Experiment, rows: Sequence[tuple[int, datetime, float]]) -> None:
    arm_ids = list(Arm.objects.filter(experiment=experiment).order_by("position").values_list("pk", flat=True))
    position = {arm: i for i, arm in enumerate(arm_ids)}
    known = [row for row in rows if row[0] in position]
    if not known:
        return
    new = Statistics.from_rewards(
        np.array([position[arm] for arm, _, _ in known]), np.array([value for _, _, value in known]), len(arm_ids)
    )
    for row in ArmStatistics.objects.select_for_update().filter(arm_id__in=arm_ids).order_by("arm_id"):
        i = position[row.arm_id]
        if not new.count[i]:
            continue
        held = Statistics(np.array([float(row.rewards)]), np.array([row.mean]), np.array([row.m2]))
        merged = held + Statistics(new.count[[i]], new.mean[[i]], new.m2[[i]])
        ArmStatistics.objects.filter(pk=row.pk).update(
            rewards=int(merged.count[0]), mean=float(merged.mean[0]), m2=float(merged.m2[0])
        )
    intervals = RewardIntervals()
    for arm, decided_at, value in known:
        intervals.add(arm, decided_at, value)
    with connection.cursor() as cursor:
        cursor.executemany(
            _ADD_TO_INTERVAL,
            [(arm, start, *moments) for (arm, start), moments in sorted(intervals.moments().items())],
        )
