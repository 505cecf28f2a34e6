"""Decisions from an endpoint's stream into the ledger and into the arms' counts, both in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import DataError, OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone

from noregret.experiments.models import Arm, Endpoint
from noregret.redis_client import client, keys
from serving.ledger import ingest, latency, partitions

from . import clock
from .mature import give_defaults_to_stragglers
from .models import ArmStatistics
from .totals import CountedDecision, DecisionTotals

log = structlog.get_logger(__name__)

BATCH = 5000
BATCHES_A_ROUND = 20


@dataclass(frozen=True, slots=True)
class Drained:
    """`decisions` new rows; `until`: every decision appended before this instant is in the ledger."""

    decisions: int
    until: datetime


def drain(endpoint: Endpoint) -> Drained:
    """Drain until the stream is empty, or for so many batches. Called under the endpoint's lock. Raises redis.RedisError."""
    redis_client = client()
    key = keys().decisions(endpoint.name)
    total = 0
    for _ in range(BATCHES_A_ROUND):
        seen_at = clock.now()
        batch = ingest.read(redis_client, key, BATCH, seen_at)
        if not batch.entry_ids:
            return Drained(total, seen_at)
        if total == 0:
            _ensure_partitions()
        total += store(batch, key)
        ingest.forget(redis_client, key, batch.entry_ids)
        if len(batch.entry_ids) < BATCH:
            return Drained(total, seen_at)
    seen_at = clock.now()
    oldest = ingest.oldest(redis_client, key)
    return Drained(total, seen_at if oldest is None else oldest)


def _ensure_partitions() -> None:
    """Today's and tomorrow's, should housekeeping not have made them; without them rows go to the default partition."""
    today = timezone.now().date()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            partitions.ensure(cursor, today, today + timedelta(days=1))
    except OperationalError as error:
        log.warning("partitions not made", error=str(error))


def store(batch: ingest.Batch, stream: str) -> int:
    """Write one batch and count what of it was new; how many that were.

    A decision that PostgreSQL refuses, though it looked right, is found by halving, and quarantined.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            new = ingest.insert(cursor, batch.decisions)
            ingest.quarantine(cursor, stream, batch.bad)
            _count(new)
        return len(new)
    except DataError as error:
        decisions = batch.decisions
        if len(decisions) == 1:
            refused = ingest.BadEntry(decisions[0].entry_id, str(error), decisions[0].body)
            return store(ingest.Batch((), (*batch.bad, refused)), stream)
        half = len(decisions) // 2
        if half == 0:
            raise  # not a decision's fault
        return store(ingest.Batch(decisions[:half], batch.bad), stream) + store(
            ingest.Batch(decisions[half:], ()), stream
        )


def _count(new: Sequence[ingest.StreamedDecision]) -> None:
    by_experiment: dict[int, list[ingest.StreamedDecision]] = {}
    for decision in new:
        by_experiment.setdefault(decision.event.experiment_id, []).append(decision)
    for experiment_id, decisions in sorted(by_experiment.items()):
        arm_ids = list(
            Arm.objects.filter(experiment_id=experiment_id).order_by("position").values_list("pk", flat=True)
        )
        known = set(arm_ids)
        counted = (_counted(decision) for decision in decisions if decision.event.arm_id in known)
        add_totals(DecisionTotals.of(counted, arm_ids))
        give_defaults_to_stragglers(
            experiment_id,
            [(d.id, d.decided_at, d.event.arm_id) for d in decisions if d.event.fallback_reason is None],
        )


def _counted(decision: ingest.StreamedDecision) -> CountedDecision:
    event = decision.event
    return CountedDecision(
        event.arm_id, decision.decided_at, event.propensities, event.latency_ms, event.fallback_reason is not None
    )


def add_totals(totals: DecisionTotals) -> None:
    """Add to the arms' statistics, in the caller's transaction."""
    for row in ArmStatistics.objects.select_for_update().filter(arm_id__in=totals.expected).order_by("arm_id"):
        arm = row.arm_id
        ArmStatistics.objects.filter(arm_id=arm).update(
            decisions=F("decisions") + totals.decisions[arm],
            failures=F("failures") + totals.failures[arm],
            expected_decisions=F("expected_decisions") + totals.expected[arm],
            latencies=latency.add(row.latencies, totals.latencies.get(arm, [])),
        )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO learning_arminterval AS held (arm_id, start, decisions, failures, rewards, reward_total, reward_m2) "
            "VALUES (%s, %s, %s, %s, 0, 0, 0) ON CONFLICT (arm_id, start) DO UPDATE SET "
            "decisions = held.decisions + EXCLUDED.decisions, failures = held.failures + EXCLUDED.failures",
            [(*key, count, totals.failed_intervals[key]) for key, count in sorted(totals.intervals.items())],
        )
