"""Decisions from an endpoint's stream into the ledger and into the arms' counts, both in one
transaction. Those that wait to be activated are kept beside it, and come in when they are; devices'
come in from where they were taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from django.db import DataError, IntegrityError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import F
from django.utils import timezone

from noregret.experiments.models import Endpoint
from noregret.redis_client import decision_log, keys
from serving.ledger import forgotten, horizon, ingest, latency, partitions
from serving.ledger.edge_decisions import BESIDE, experiment_of

from . import baselines, clock, from_devices, summing, waiting
from .baselines import BaselineDecision
from .collector import uncollected
from .contextual import readable_context
from .defaults import give_defaults_to_stragglers
from .evidence import RULES, seats_of, split_of, units_count_once
from .kept_arms import note_decisions
from .models import ArmStatistics, ExperimentEvidence
from .totals import CountedDecisions, DecisionTotals

log = structlog.get_logger(__name__)

_ADD_TO_INTERVALS = """
INSERT INTO learning_arminterval AS held (arm_id, start, decisions, failures, rewards, reward_total, reward_m2)
SELECT arm_id, start, decisions, failures, 0, 0, 0 FROM unnest(
    %(arms)s::bigint[], %(starts)s::timestamptz[], %(decisions)s::bigint[], %(failures)s::bigint[]
) AS new (arm_id, start, decisions, failures) ORDER BY arm_id, start
ON CONFLICT (arm_id, start) DO UPDATE SET
    decisions = held.decisions + EXCLUDED.decisions, failures = held.failures + EXCLUDED.failures
"""
BATCH = 10_000
BATCHES_A_ROUND = 10


@dataclass(frozen=True, slots=True)
class Drained:
    """`decisions` new rows; `until`: every decision made before this instant is in the ledger, as
    far as is known of what lies on disks."""

    decisions: int
    until: datetime


def drain(endpoint: Endpoint) -> Drained:
    """Drain until the stream is empty, or for so many batches. Called under the endpoint's lock.
    Raises redis.RedisError."""
    with uncollected():
        drained = _drain(endpoint)
        total, until = drained.decisions, drained.until
        # After the stream: an activation that came before its decision finds it now.
        for place in (waiting, from_devices):
            taken, oldest_left = _take(endpoint, place)
            total, until = total + taken, _earlier(until, oldest_left)
        return Drained(total, until)


class TakenFrom(Protocol):
    """Where decisions are kept beside the stream until they come in: a module."""

    def to_take(self, endpoint_id: int, limit: int) -> ingest.Batch: ...
    def take(self, cursor: CursorWrapper, entry_ids: Sequence[bytes]) -> None: ...


def _take(endpoint: Endpoint, place: TakenFrom) -> tuple[int, datetime | None]:
    """Decisions that are kept there come in: how many, and when the oldest was made that is left
    for the next round."""
    total = 0
    for _ in range(BATCHES_A_ROUND):
        batch = place.to_take(endpoint.pk, BATCH)
        if not batch.entry_ids:
            return total, None
        if total == 0:
            _ensure_partitions()
        total += store(batch, keys().decisions(endpoint.name), place)
    left = place.to_take(endpoint.pk, 1)
    return total, min((one.decided_at for one in left.decisions), default=None)


def _drain(endpoint: Endpoint) -> Drained:
    decisions = decision_log()
    total = 0
    # Asked before the stream is read: what was shipped since is in the stream then.
    spooled = decisions.held_back_since(endpoint.name)
    for _ in range(BATCHES_A_ROUND):
        seen_at = clock.now()
        batch = ingest.read(decisions, endpoint.name, BATCH, seen_at)
        if not batch.entry_ids:
            return Drained(total, _earlier(seen_at, spooled))
        if total == 0:
            _ensure_partitions()
        total += store(_hold_back(endpoint, batch), keys().decisions(endpoint.name))
        decisions.forget(endpoint.name, batch.entry_ids)
        if len(batch.entry_ids) < BATCH:
            return Drained(total, _earlier(seen_at, spooled))
    seen_at = clock.now()
    oldest = decisions.oldest(endpoint.name)
    return Drained(total, _earlier(seen_at if oldest is None else oldest, spooled))


def _earlier(until: datetime, spooled: datetime | None) -> datetime:
    return until if spooled is None else min(until, spooled)


def _ensure_partitions() -> None:
    """Today's and tomorrow's, should housekeeping not have made them; without them rows go to the
    default partition."""
    today = timezone.now().date()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            partitions.ensure(cursor, today, today + timedelta(days=1))
    except OperationalError as error:
        log.warning("partitions not made", error=str(error))


def _hold_back(endpoint: Endpoint, batch: ingest.Batch) -> ingest.Batch:
    """The batch without the decisions that wait to be activated, which are kept for that."""
    waits = [one for one in batch.decisions if one.event.waits]
    if not waits:
        return batch
    with transaction.atomic(), connection.cursor() as cursor:
        evidence = _evidence(waits)
        windows = {number: held.experiment.reward_.window_seconds for number, held in evidence.items()}
        windows |= baselines.windows({one.event.experiment_id for one in waits} - windows.keys())
        named = _without_forgotten(ingest.Batch(waits, ()), evidence).decisions
        waiting.keep(
            cursor,
            endpoint.pk,
            [
                waiting.HeldBack(one, one.decided_at + timedelta(seconds=windows.get(one.event.experiment_id, 0.0)))
                for one in named
            ],
        )
    return ingest.Batch([one for one in batch.decisions if not one.event.waits], batch.bad)


def store(batch: ingest.Batch, stream: str, place: TakenFrom | None = None) -> int:
    """Write one batch and count what of it was new; how many that were. `place`: where it was kept,
    if it is not of the stream.

    A decision that PostgreSQL refuses, though it looked right, is found by halving, and
    quarantined.
    """
    return partitions.written(lambda: _store(batch, stream, place), IntegrityError)


def _store(batch: ingest.Batch, stream: str, place: TakenFrom | None) -> int:
    entry_ids = batch.entry_ids
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            horizon.hold_days()
            evidence = _evidence(batch.decisions)
            batch = _of_days_that_are_kept(_without_forgotten(batch, evidence))
            new = ingest.insert(cursor, batch.decisions, [_counting(held) for held in evidence.values()])
            ingest.quarantine(cursor, stream, batch.bad)
            _count(new, evidence)
            if place is not None:  # last, for an activation that comes again waits for it
                place.take(cursor, entry_ids)
        return len(new)
    except DataError as error:
        decisions = batch.decisions
        if len(decisions) == 1:
            refused = ingest.BadEntry(decisions[0].entry_id, str(error), decisions[0].body)
            return store(ingest.Batch((), (*batch.bad, refused)), stream, place)
        half = len(decisions) // 2
        if half == 0:
            raise  # not a decision's fault
        return sum(
            store(part, stream, place)
            for part in (ingest.Batch(decisions[:half], batch.bad), ingest.Batch(decisions[half:], ()))
        )


def _of_days_that_are_kept(batch: ingest.Batch) -> ingest.Batch:
    """Decisions of days that were dropped are set aside: what was learned of those days is stored
    without them."""
    begins = horizon.begins_at()
    if begins is None or all(decision.decided_at >= begins for decision in batch.decisions):
        return batch
    gone = [
        ingest.BadEntry(d.entry_id, f"decided at {d.decided_at}, and the ledger begins at {begins}", d.body)
        for d in batch.decisions
        if d.decided_at < begins
    ]
    return ingest.Batch([d for d in batch.decisions if d.decided_at >= begins], [*batch.bad, *gone])


def _without_forgotten(batch: ingest.Batch, evidence: Mapping[int, ExperimentEvidence]) -> ingest.Batch:
    """Decisions of units that were forgotten since come in without their names; with the evidence
    locked, as `manage.py forget` does."""

    def readable(experiment_id: int, context: dict[str, Any] | None) -> dict[str, Any] | None:
        held = evidence.get(experiment_id)
        return readable_context(None if held is None else held.experiment, context)

    return ingest.Batch(forgotten.without_names(batch.decisions, readable), batch.bad)


def _evidence(decisions: Sequence[ingest.StreamedDecision]) -> dict[int, ExperimentEvidence]:
    """The evidence of these decisions' experiments by id, locked: no bucket is closed between a
    decision's mark and its commit."""
    experiments = {experiment_of(decision.event.experiment_id) for decision in decisions}
    rows = ExperimentEvidence.objects.select_for_update(of=("self",)).select_related("experiment")
    rows = rows.defer("state", "answers", "learned")  # of what is large, only the split is added to
    return {held.experiment_id: held for held in rows.filter(experiment__in=experiments).order_by("experiment_id")}


def _counting(held: ExperimentEvidence) -> ingest.Counting:
    once = units_count_once(held.experiment)
    return ingest.Counting(held.experiment_id, once, held.closed_until, held.sealed_until)


def _count(new: Sequence[tuple[ingest.StreamedDecision, bool]], evidence: Mapping[int, ExperimentEvidence]) -> None:
    by_experiment: dict[int, list[tuple[ingest.StreamedDecision, bool]]] = {}
    for decision, trial in new:
        by_experiment.setdefault(decision.event.experiment_id, []).append((decision, trial))
    # What is neither an experiment's nor a baseline's is kept in the ledger, and counted nowhere.
    baselines.count(
        {
            number: [
                BaselineDecision(d.decided_at, d.event.call_ms, d.event.fallback_reason is not None, d.event.cached)
                for d, _ in decisions
            ]
            for number, decisions in by_experiment.items()
            if number not in evidence
        }
    )
    for experiment_id, decisions in sorted(by_experiment.items()):
        if experiment_id >= BESIDE:  # kept, and learned from by nobody
            counted = ExperimentEvidence.objects.filter(experiment=experiment_of(experiment_id))
            counted.update(beside=F("beside") + len(decisions))
        held = evidence.get(experiment_id)
        if held is None:
            continue
        arm_ids = list(seats_of(held.experiment))
        known = set(arm_ids)
        ours = [(decision, trial) for decision, trial in decisions if decision.event.arm_id in known]
        totals = DecisionTotals.of(_columns(ours), arm_ids)
        add_totals(totals)
        note_decisions(held, totals, len(arm_ids))
        if held.rules >= RULES:  # until then they are all counted when the sums are made anew
            split = split_of(held.experiment, held) + totals.split
            ExperimentEvidence.objects.filter(pk=held.pk).update(split=split.to_dict())
        give_defaults_to_stragglers(held, [decision for decision, _ in decisions])
        summing.drained(held, [decision for decision, _ in ours])


def _columns(decisions: Sequence[tuple[ingest.StreamedDecision, bool]]) -> CountedDecisions:
    events = [decision.event for decision, _ in decisions]
    return CountedDecisions(
        arm_ids=[event.arm_id for event in events],
        decided_us=[decision.decided_us for decision, _ in decisions],
        propensities=[event.propensities for event in events],
        latencies_ms=[event.call_ms for event in events],
        failed=[event.fallback_reason is not None for event in events],
        trial=[trial for _, trial in decisions],
        cached=[event.cached for event in events],
    )


def add_totals(totals: DecisionTotals) -> None:
    """Add to the arms' statistics, in the caller's transaction."""
    for row in ArmStatistics.objects.select_for_update().filter(arm_id__in=totals.decisions).order_by("arm_id"):
        arm = row.arm_id
        ArmStatistics.objects.filter(arm_id=arm).update(
            decisions=F("decisions") + totals.decisions[arm],
            failures=F("failures") + totals.failures[arm],
            cached=F("cached") + totals.cached[arm],
            latencies=latency.add(row.latencies, totals.latencies.get(arm, [])),
        )
    if not totals.intervals:
        return
    columns: dict[str, list[Any]] = {
        "arms": [arm for arm, _ in totals.intervals],
        "starts": [start for _, start in totals.intervals],
        "decisions": list(totals.intervals.values()),
        "failures": [totals.failed_intervals[key] for key in totals.intervals],
    }
    with connection.cursor() as cursor:
        cursor.execute(_ADD_TO_INTERVALS, columns)
