"""Keeps the sums of what is watched, by guardrails and by the scores of shadows, so that no look
sums over the ledger.

Values are claimed by their mark `summed`, as rewards are by `folded`, and added to the sums of each
watch of their metric. What compares an arm with its control goes on in strata, over decisions that
nothing can be added to: values once their bucket is closed, failures once their time is sealed, a
minute after. A watch that is new, or was changed, or meets a ledger of an earlier version, goes
through what is there once, in pieces: until it is through, `metric_values` says so and judges
nothing. Each step is done in one transaction with its sums, under the locks of the experiment's
watches, so that it is safe beside itself.
"""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from noregret.experiments.models import Arm, Experiment
from noregret.learning import clock, shadow_sums
from noregret.learning.clock import EARLIEST, FOREVER, earliest_decision
from noregret.learning.models import ExperimentEvidence, WatchedMetric, WatchedValues
from noregret.learning.totals import interval_start

from .comparisons import begun, compare, edge_after
from .rows import NTH_DECISION, NTH_VALUE, SUMMED, end_of_piece, rows_between
from .values import of_row, sums_of, values_row
from .watches import OUTCOME, Watch, is_mirrored, metrics_of, watches_of

BATCH = 20_000
ROUND_SECONDS = 0.3
"""For so long one round goes through it."""
SLACK = timedelta(days=1)
"""So far behind the closed buckets no value is expected that was not late: one within its window
has seconds to commit."""
SEAL = timedelta(minutes=1)
"""Failures are compared when their decisions had so much time to come into the ledger."""


def keep_up(experiment: Experiment, drained_until: datetime | None) -> bool:
    """Add what came in since; False where more is to be gone through. Called in the learner's
    round, after buckets were closed.

    `drained_until`: None where the stream could not be drained, so that nobody knows up to when
    decisions are complete.
    """
    watches = watches_of(experiment)
    _tend(experiment, watches)
    through = not is_mirrored(experiment) or shadow_sums.catch_up(experiment)
    claim_all(experiment)
    if not watches:
        return through
    closed = ExperimentEvidence.objects.values_list("closed_until", flat=True).get(experiment=experiment)
    sealed = None
    if drained_until is not None and any(watch.kind == "failures" for watch in watches.values()):
        sealed = _seal(experiment, interval_start(min(drained_until, clock.now()) - SEAL))
    until = time.monotonic() + ROUND_SECONDS
    ends = {"difference": closed, "failures": sealed}
    while True:
        more = _catch_up(experiment, watches)
        more |= _compare(experiment, watches, ends)
        if not more or time.monotonic() >= until:
            return through and not more


def _tend(experiment: Experiment, watches: dict[str, Watch]) -> None:
    """A row for each watch, and none for what nobody watches any more."""
    held = set(WatchedMetric.objects.filter(experiment=experiment).values_list("key", flat=True))
    if held == watches.keys():
        return
    WatchedMetric.objects.filter(experiment=experiment).exclude(key__in=watches).delete()
    rows = [WatchedMetric(experiment=experiment, key=key) for key in watches.keys() - held]
    WatchedMetric.objects.bulk_create(rows, ignore_conflicts=True)


def _locked(experiment: Experiment) -> list[WatchedMetric]:
    return list(WatchedMetric.objects.select_for_update().filter(experiment=experiment).order_by("pk"))


_UNSUMMED = """experiment_id = %(experiment)s AND metric = ANY(%(metrics)s) AND NOT summed AND (NOT late OR metric = %(truth)s)
    AND decided_at >= %(since)s"""
# Which days the claim has to look into: of each it makes a plan of its own, and most rounds find
# nothing. Some of them: asked for their first and last alone, the database would go through all
# that were summed in order of time.
_WAITING = f"""
WITH waiting AS MATERIALIZED (SELECT decided_at FROM serving_reward WHERE {_UNSUMMED} LIMIT %(limit)s)
SELECT min(decided_at), max(decided_at) FROM waiting
"""  # noqa: S608 - constants
# The conditions stand twice, as in `fold`.
_CLAIM = f"""
UPDATE serving_reward SET summed = true
WHERE (decided_at, decision_id, metric) IN (
    SELECT decided_at, decision_id, metric FROM serving_reward
    WHERE {_UNSUMMED} AND decided_at <= %(until)s LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
AND {_UNSUMMED} AND decided_at <= %(until)s
RETURNING metric, arm_id, value, decided_at, decision_id, late
"""  # noqa: S608 - constants
_ANY_WAITING = f"SELECT 1 FROM serving_reward WHERE {_UNSUMMED} AND decided_at < %(end)s LIMIT 1"  # noqa: S608 - constants


def claim_all(experiment: Experiment) -> None:
    """Add every value that no sum holds yet."""
    watches = watches_of(experiment)
    while claim(experiment, watches) == BATCH:
        pass


def claim(experiment: Experiment, watches: dict[str, Watch]) -> int:
    """Add values that no sum holds yet; how many were claimed, at most BATCH."""
    metrics = metrics_of(experiment)
    if not metrics:
        return 0
    truth = _truth(experiment)
    parameters: dict[str, Any] = {
        "experiment": experiment.pk,
        "metrics": sorted(metrics),
        "limit": BATCH,
        "truth": truth,
        "since": _claimed_since(experiment, truth),
    }
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, parameters)
        parameters["since"], parameters["until"] = cursor.fetchone()
    if parameters["since"] is None:
        return 0
    with transaction.atomic():
        rows = _locked(experiment)
        shadowed = shadow_sums.locked(experiment.pk) if is_mirrored(experiment) else {}
        with connection.cursor() as cursor:
            cursor.execute(_CLAIM, parameters)
            values = cursor.fetchall()
        for row in rows:
            watch, until = watches.get(row.key), row.summed_until
            if watch is not None and until is not None:
                # What lies beyond is added on the way through.
                of_watch = (each for each in values if each[0] == watch.metric and each[3] < until and not each[5])
                _add(row, watch, ((arm, value) for _, arm, value, _, _, _ in of_watch))
        outcomes = [(identity, at, value) for metric, _, value, at, identity, _ in values if metric == OUTCOME]
        shadow_sums.add_outcomes(experiment, shadowed, outcomes if shadowed else [])
    return len(values)


def unsummed(experiment: Experiment, end: datetime) -> bool:
    """Does a value of a decision before `end` wait to be claimed?"""
    truth = _truth(experiment)
    asked: dict[str, Any] = {"experiment": experiment.pk, "metrics": sorted(metrics_of(experiment)), "truth": truth}
    with connection.cursor() as cursor:
        cursor.execute(_ANY_WAITING, asked | {"since": earliest_decision(experiment), "end": end})
        return cursor.fetchone() is not None


def _truth(experiment: Experiment) -> str | None:
    """What was true is scored however late it was told, unless it is the reward, whose late values
    a default replaces."""
    return OUTCOME if is_mirrored(experiment) and experiment.reward_.metric != OUTCOME else None


def _claimed_since(experiment: Experiment, truth: str | None) -> datetime:
    """Values of decisions before this are claimed on the way through, if at all: no day of the
    ledger before it is looked into."""
    began = earliest_decision(experiment)
    closed = ExperimentEvidence.objects.values_list("closed_until", flat=True).get(experiment=experiment)
    return began if truth is not None or closed is None else max(began, closed - SLACK)


def _add(row: WatchedMetric, watch: Watch, values: Iterable[tuple[int, float]]) -> None:
    new = sums_of(values, watch)
    if not new:
        return
    held = {each.arm_id: each for each in WatchedValues.objects.filter(watched=row, arm__in=new)}
    known = set(Arm.objects.filter(experiment=row.experiment_id, pk__in=new).values_list("pk", flat=True))
    rows = []
    for arm, sums in new.items():
        if arm in known:
            rows.append(values_row(row, arm, of_row(held[arm]) + sums if arm in held else sums))
    WatchedValues.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["watched", "arm"],
        update_fields=["count", "mean", "lowest", "highest", "above", "below"],
    )


# Of a metric that nobody watched before.
_MARK = """
UPDATE serving_reward SET summed = true
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND decided_at >= %(start)s AND decided_at < %(end)s
    AND NOT summed AND NOT late
"""


def _catch_up(experiment: Experiment, watches: dict[str, Watch]) -> bool:
    """One piece for each watch of what was there before it; True where there is more."""
    if not any(watch.kind != "failures" for watch in watches.values()):
        return False
    more = False
    claimed_since = _claimed_since(experiment, _truth(experiment))
    with transaction.atomic():
        for row in _locked(experiment):
            watch = watches.get(row.key)
            if watch is None or watch.kind == "failures" or row.summed_until == FOREVER:
                continue
            start = row.summed_until or EARLIEST
            end = end_of_piece(NTH_VALUE, experiment, watch.metric, start) or FOREVER
            # Not those that are claimed: other watches of the metric would miss one that came in
            # just now.
            asked: dict[str, Any] = {"experiment": experiment.pk, "metric": watch.metric, "start": start}
            with connection.cursor() as cursor:
                cursor.execute(_MARK, asked | {"end": min(end, claimed_since)})
            _add(row, watch, rows_between(SUMMED, experiment, watch.metric, start, end))
            WatchedMetric.objects.filter(pk=row.pk).update(summed_until=end)
            more |= end != FOREVER
    return more


def _seal(experiment: Experiment, until: datetime) -> datetime:
    """From now on nothing is added before `until`; until when that holds. A drain holds the same
    row while it marks decisions."""
    with transaction.atomic():
        held = ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
        sealed = max(until, held.sealed_until or until)
        if sealed != held.sealed_until:
            ExperimentEvidence.objects.filter(pk=held.pk).update(sealed_until=sealed)
    return sealed


def _compare(experiment: Experiment, watches: dict[str, Watch], ends: dict[str, datetime | None]) -> bool:
    """One piece of each comparison with the control; True where there may be more."""
    if not any(ends.values()):
        return False
    more = False
    with transaction.atomic():
        for row in _locked(experiment):
            watch = watches.get(row.key)
            end = None if watch is None else ends.get(watch.kind)
            start = begun(experiment, row)
            if watch is None or end is None or end <= start:
                continue
            query = NTH_DECISION if watch.kind == "failures" else NTH_VALUE
            piece = end_of_piece(query, experiment, watch.metric, start)
            if piece is not None:
                end = min(end, edge_after(experiment, watch, piece))
                more = True
            compared = compare(experiment, watch, row.compared, start, end)
            WatchedMetric.objects.filter(pk=row.pk).update(compared=compared, compared_until=end)
    return more
