"""Computes what was learned anew, from the ledger alone, and holds it against the live state.

Day by day, as sums that merge: a day is a task of its own where there are many of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np
from django.db import connection, transaction

from bandits.inference.anytime import Evidence
from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.models import Experiment
from noregret.experiments.publish import publish_endpoint

from .locks import endpoint_lock
from .mature import bounds_of, experiment_indifference, replay
from .models import ArmInterval, ArmStatistics, ExperimentEvidence
from .totals import CountedDecision, DecisionTotals, interval_start

TOLERANCE = 1e-9
_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Learned:
    """What the ledger says of an experiment's arms: decisions by arm id, rewards by position and by interval."""

    totals: DecisionTotals
    moments: Statistics
    rewards: dict[tuple[int, datetime], tuple[int, float]]

    def __add__(self, other: "Learned") -> "Learned":
        rewards = dict(self.rewards)
        for key, (count, total) in other.rewards.items():
            held = rewards.get(key, (0, 0.0))
            rewards[key] = held[0] + count, held[1] + total
        return Learned(self.totals + other.totals, self.moments + other.moments, rewards)


def days_of(experiment: Experiment) -> list[datetime]:
    """The days on which decisions of the experiment lie in the ledger."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(at), max(at) FROM ("
            "SELECT min(decided_at) AS at FROM serving_decision WHERE experiment_id = %(e)s UNION ALL "
            "SELECT max(decided_at) FROM serving_decision WHERE experiment_id = %(e)s UNION ALL "
            "SELECT min(decided_at) FROM serving_reward WHERE experiment_id = %(e)s UNION ALL "
            "SELECT max(decided_at) FROM serving_reward WHERE experiment_id = %(e)s) AS ends",
            {"e": experiment.pk},
        )
        first, last = cursor.fetchone()
    if first is None:
        return []
    start = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [start + timedelta(days=n) for n in range((last - start).days + 1)]


def _rows(query: str, parameters: dict[str, Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in chunks, from a cursor of the server: memory stays bounded."""
    with transaction.atomic(), connection.connection.cursor(name="rebuild") as cursor:
        cursor.execute(query, parameters)
        while rows := cursor.fetchmany(_CHUNK):
            yield rows


def learn_day(experiment: Experiment, arm_ids: list[int], day: datetime) -> Learned:
    """The map step: one day of decisions and of folded rewards."""
    position = {arm: i for i, arm in enumerate(arm_ids)}
    parameters = {"e": experiment.pk, "start": day, "end": day + timedelta(days=1)}
    totals = DecisionTotals.of((), arm_ids)
    for rows in _rows(
        "SELECT arm_id, decided_at, propensities, latency_ms, fallback_reason IS NOT NULL FROM serving_decision "
        "WHERE experiment_id = %(e)s AND decided_at >= %(start)s AND decided_at < %(end)s",
        parameters,
    ):
        totals = totals + DecisionTotals.of((CountedDecision(*row) for row in rows if row[0] in position), arm_ids)
    moments = Statistics.zeros(len(arm_ids))
    intervals: dict[tuple[int, datetime], tuple[int, float]] = {}
    for rows in _rows(
        "SELECT arm_id, decided_at, value FROM serving_reward WHERE experiment_id = %(e)s AND folded AND NOT late "
        "AND metric = %(metric)s AND decided_at >= %(start)s AND decided_at < %(end)s",
        parameters | {"metric": experiment.reward["metric"]},
    ):
        known = [row for row in rows if row[0] in position]
        if known:
            arm = np.array([position[row[0]] for row in known])
            moments = moments + Statistics.from_rewards(arm, np.array([row[2] for row in known]), len(arm_ids))
        for arm_id, decided_at, value in known:
            key = arm_id, interval_start(decided_at)
            held = intervals.get(key, (0, 0.0))
            intervals[key] = held[0] + 1, held[1] + value
    return Learned(totals, moments, intervals)


def learn_all(experiment: Experiment, arm_ids: list[int]) -> Learned:
    """Map over the days, and merge."""
    nothing = Learned(DecisionTotals.of((), arm_ids), Statistics.zeros(len(arm_ids)), {})
    return reduce(Learned.__add__, (learn_day(experiment, arm_ids, day) for day in days_of(experiment)), nothing)


def replay_evidence(experiment: Experiment, arms: int) -> tuple[Evidence | None, int]:
    """The evidence from its marked rewards, bucket by bucket, and how many there were."""
    if bounds_of(experiment) is None:
        return None, 0
    rows: list[Any] = []
    for chunk in _rows(
        "SELECT d.arm_id, d.propensities, r.value, d.decided_at FROM serving_reward AS r JOIN serving_decision AS d "
        "ON r.decided_at = d.decided_at AND r.decision_id = d.id "
        "WHERE r.experiment_id = %(e)s AND r.metric = %(metric)s AND r.matured",
        {"e": experiment.pk, "metric": experiment.reward["metric"]},
    ):
        rows += chunk
    empty = Evidence.empty(arms, experiment_indifference(experiment))
    return replay(experiment, empty, rows), len(rows)


def rebuild(experiment: Experiment, *, write: bool) -> list[str]:
    """The differences between ledger and live state, a sentence each; with `write` the live state is then replaced."""
    with endpoint_lock(experiment.endpoint_id, wait=True):
        arms = list(experiment.arms.order_by("position"))
        arm_ids = [arm.pk for arm in arms]
        learned = learn_all(experiment, arm_ids)
        evidence, matured = replay_evidence(experiment, len(arms))
        differences = [
            *_statistics_differences(arms, learned),
            *_interval_differences(arm_ids, learned),
            *_evidence_differences(experiment, evidence, matured),
        ]
        if write:
            _write(experiment, arm_ids, learned, evidence, matured)
    if write:
        publish_endpoint(experiment.endpoint_id)
    return differences


def _close(left: float, right: float) -> bool:
    return abs(left - right) <= TOLERANCE * max(1.0, abs(left), abs(right))


def _statistics_differences(arms: list[Any], learned: Learned) -> Iterator[str]:
    for i, arm in enumerate(arms):
        held = ArmStatistics.objects.get(arm=arm)
        counts = {
            "decisions": (held.decisions, learned.totals.decisions[arm.pk]),
            "failures": (held.failures, learned.totals.failures[arm.pk]),
            "rewards": (held.rewards, int(learned.moments.count[i])),
            "latencies": (held.latencies, learned.totals.latencies.get(arm.pk, [])),
        }
        for name, (live, ledger) in counts.items():
            if live != ledger:
                yield f"{arm.name}: {name} is {live}, the ledger has {ledger}"
        floats = {
            "expected_decisions": (held.expected_decisions, learned.totals.expected[arm.pk]),
            "mean": (held.mean, float(learned.moments.mean[i])),
            "m2": (held.m2, float(learned.moments.m2[i])),
        }
        for name, (value, right) in floats.items():
            if not _close(value, right):
                yield f"{arm.name}: {name} is {value!r}, the ledger has {right!r}"


def _interval_rows(arm_ids: list[int], learned: Learned) -> dict[tuple[int, datetime], tuple[int, int, float]]:
    keys = learned.totals.intervals.keys() | learned.rewards.keys()
    return {
        key: (learned.totals.intervals[key], *learned.rewards.get(key, (0, 0.0))) for key in keys if key[0] in arm_ids
    }


def _interval_differences(arm_ids: list[int], learned: Learned) -> Iterator[str]:
    wanted = _interval_rows(arm_ids, learned)
    held = {
        (row.arm_id, row.start): (row.decisions, row.rewards, row.reward_total)
        for row in ArmInterval.objects.filter(arm_id__in=arm_ids)
    }
    for key in sorted(wanted.keys() | held.keys()):
        live, ledger = held.get(key, (0, 0, 0.0)), wanted.get(key, (0, 0, 0.0))
        if live[:2] != ledger[:2] or not _close(live[2], ledger[2]):
            yield f"interval of arm {key[0]} from {key[1]:%Y-%m-%d %H:%M:%S} is {live}, the ledger has {ledger}"


def _evidence_differences(experiment: Experiment, evidence: Evidence | None, matured: int) -> Iterator[str]:
    held = ExperimentEvidence.objects.get(experiment=experiment)
    if evidence is None:
        return
    if held.matured != matured:
        yield f"evidence: matured is {held.matured}, the ledger has {matured}"
    live = Evidence.from_dict(held.state) if held.state else Evidence.empty(evidence.arms, evidence.indifference)
    pairs = {
        "superior": (live.superior, evidence.superior),
        "noninferior": (live.noninferior, evidence.noninferior),
        "matured count": (live.matured.count, evidence.matured.count),
        "matured mean": (live.matured.mean, evidence.matured.mean),
        "scores mean": (live.scores.mean, evidence.scores.mean),
        "scores m2": (live.scores.m2, evidence.scores.m2),
    }
    for name, (left, right) in pairs.items():
        if left is None or right is None:
            continue
        if left.shape != right.shape or not np.allclose(left, right, rtol=TOLERANCE, atol=TOLERANCE):
            yield f"evidence: {name} differs from the ledger's"


def _write(
    experiment: Experiment, arm_ids: list[int], learned: Learned, evidence: Evidence | None, matured: int
) -> None:
    with transaction.atomic():
        for i, arm in enumerate(arm_ids):
            ArmStatistics.objects.filter(arm_id=arm).update(
                decisions=learned.totals.decisions[arm],
                failures=learned.totals.failures[arm],
                expected_decisions=learned.totals.expected[arm],
                latencies=learned.totals.latencies.get(arm, []),
                rewards=int(learned.moments.count[i]),
                mean=float(learned.moments.mean[i]),
                m2=float(learned.moments.m2[i]),
            )
        ArmInterval.objects.filter(arm_id__in=arm_ids).delete()
        ArmInterval.objects.bulk_create(
            ArmInterval(arm_id=arm, start=start, decisions=decisions, rewards=rewards, reward_total=total)
            for (arm, start), (decisions, rewards, total) in _interval_rows(arm_ids, learned).items()
        )
        ExperimentEvidence.objects.filter(experiment=experiment).update(
            matured=matured, state={} if evidence is None else evidence.to_dict()
        )
