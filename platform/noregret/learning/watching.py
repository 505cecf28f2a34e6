"""Keeps the sums of what is watched, by guardrails and by the scores of shadows, so that no look sums over the ledger.

Values are claimed by their mark `summed`, as rewards are by `folded`, and added to the sums of each watch of their metric. What compares an
arm with its control goes on in strata, over decisions that nothing can be added to: values once their bucket is closed, failures once their
time is sealed, a minute after. A watch that is new, or was changed, or meets a ledger of an earlier version, goes through what
is there once, in pieces: until it is through, `metric_values` says so and judges nothing. Each step is done in one transaction with
its sums, under the locks of the experiment's watches, so that it is safe beside itself.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection, transaction

from bandits.inference import betting
from bandits.inference.betting import Ladder, Wagers
from bandits.inference.strata import FailureStrata, Sides, ValueStrata
from bandits.statistics import Array
from noregret.access.models import AuditEntry
from noregret.experiments.models import Arm, Experiment
from serving.feedback import MAX_VALUE

from . import clock, shadow_sums
from .kept import rows_from
from .models import ExperimentEvidence, WatchedMetric, WatchedValues
from .totals import INTERVAL_SECONDS, interval_start
from .watches import OUTCOME, Watch, is_mirrored, metrics_of, watches_of
from .weighing import bucket_number, bucket_width, floor_to_bucket

BATCH = 20_000
PIECE = 50_000
"""So many rows are read for one step through what was there before a watch."""
ROUND_SECONDS = 0.3
"""For so long one round goes through it."""
SLACK = timedelta(days=1)
"""So far behind the closed buckets no value is expected that was not late: one within its window has seconds to commit."""
SEAL = timedelta(minutes=1)
"""Failures are compared when their decisions had so much time to come into the ledger."""
FOREVER = datetime.max.replace(tzinfo=UTC)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ValueSums:
    """Values of one arm. They add; `above` and `below` are logarithms of what bets have won: of a Ladder, or of Wagers where the bound that
    they need is declared.
    """

    count: int
    mean: float
    lowest: float
    highest: float
    above: Array
    below: Array

    @classmethod
    def of(cls, values: Array, watch: Watch) -> "ValueSums":
        sides = watch.sides
        values = cut(values, sides)
        above = below = np.zeros(0)
        if watch.kind == "mean":
            above = _won(values, sides.above, sides.minimum)
            below = _won(-values, _negative(sides.below), _negative(sides.maximum))
        return cls(len(values), float(values.mean()), float(values.min()), float(values.max()), above, below)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"above": self.above.tolist(), "below": self.below.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "ValueSums":
        return cls(**state | {"above": np.array(state["above"]), "below": np.array(state["below"])})

    def __add__(self, other: "ValueSums") -> "ValueSums":
        count = self.count + other.count
        return ValueSums(
            count,
            self.mean + (other.mean - self.mean) * (other.count / count),
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            self.above + other.above,
            self.below + other.below,
        )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def cut(values: Array, sides: Sides) -> Array:
    """Values beyond the declared bounds count as the bound; and none is more than what is taken today."""
    low = -MAX_VALUE if sides.minimum is None else max(sides.minimum, -MAX_VALUE)
    high = MAX_VALUE if sides.maximum is None else min(sides.maximum, MAX_VALUE)
    return np.clip(values, low, high)


def _won(values: Array, limit: float | None, minimum: float | None) -> Array:
    """What bets have won that the mean is more than `limit`."""
    if limit is None:
        return np.zeros(0)
    if minimum is None:
        return Ladder.on(values, limit).logs
    far = betting.reach(limit, 0.0, 0.0, minimum)
    assert far is not None, "known from the bound"
    return Wagers.on(betting.gains_above(values, limit, far)).logs


def keep_up(experiment: Experiment, drained_until: datetime | None) -> bool:
    """Add what came in since; False where more is to be gone through. Called in the learner's round, after buckets were closed.

    `drained_until`: None where the stream could not be drained, so that nobody knows up to when decisions are complete.
    """
    watches = watches_of(experiment)
    _tend(experiment, watches)
    through = not is_mirrored(experiment) or shadow_sums.catch_up(experiment)
    while claim(experiment, watches) == BATCH:
        pass
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


_CLAIM = """
UPDATE serving_reward SET summed = true
WHERE (decided_at, decision_id, metric) IN (
    SELECT decided_at, decision_id, metric FROM serving_reward
    WHERE experiment_id = %(experiment)s AND metric = ANY(%(metrics)s) AND NOT summed AND (NOT late OR metric = %(truth)s)
    AND decided_at >= %(since)s LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
AND experiment_id = %(experiment)s AND metric = ANY(%(metrics)s) AND NOT summed AND (NOT late OR metric = %(truth)s)
AND decided_at >= %(since)s
RETURNING metric, arm_id, value, decided_at, decision_id, late
"""


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


def _truth(experiment: Experiment) -> str | None:
    """What was true is scored however late it was told, unless it is the reward, whose late values a default replaces."""
    return OUTCOME if is_mirrored(experiment) and experiment.reward["metric"] != OUTCOME else None


def _claimed_since(experiment: Experiment, truth: str | None) -> datetime:
    """Values of decisions before this are claimed on the way through, if at all: no day of the ledger before it is looked into."""
    began = (experiment.started_at or experiment.created_at) - SLACK
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


def sums_of(values: Iterable[tuple[int, float]], watch: Watch) -> dict[int, ValueSums]:
    """By arm id, of (arm id, value)."""
    by_arm: dict[int, list[float]] = {}
    for arm, value in values:
        if not math.isnan(value):  # it is taken no more, but an old ledger may hold some
            by_arm.setdefault(arm, []).append(value)
    return {arm: ValueSums.of(np.array(found), watch) for arm, found in sorted(by_arm.items())}


def of_row(row: WatchedValues) -> ValueSums:
    return ValueSums(row.count, row.mean, row.lowest, row.highest, np.array(row.above), np.array(row.below))


def values_row(watched: WatchedMetric, arm: int, sums: ValueSums) -> WatchedValues:
    return WatchedValues(
        watched=watched,
        arm_id=arm,
        count=sums.count,
        mean=sums.mean,
        lowest=sums.lowest,
        highest=sums.highest,
        above=sums.above.tolist(),
        below=sums.below.tolist(),
    )


# Of a metric that nobody watched before.
_MARK = """
UPDATE serving_reward SET summed = true
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND decided_at >= %(start)s AND decided_at < %(end)s
    AND NOT summed AND NOT late
"""
_SUMMED = """
SELECT arm_id, value FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND decided_at >= %(start)s AND decided_at < %(end)s
    AND summed AND NOT late
"""
_NTH_VALUE = """
SELECT decided_at FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND decided_at >= %(start)s
ORDER BY decided_at OFFSET %(n)s LIMIT 1
"""
_NTH_DECISION = """
SELECT decided_at FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s ORDER BY decided_at OFFSET %(n)s LIMIT 1
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
            start = row.summed_until or _EARLIEST
            end = _end_of_piece(_NTH_VALUE, experiment, watch.metric, start) or FOREVER
            # Not those that are claimed: other watches of the metric would miss one that came in just now.
            asked: dict[str, Any] = {"experiment": experiment.pk, "metric": watch.metric, "start": start}
            with connection.cursor() as cursor:
                cursor.execute(_MARK, asked | {"end": min(end, claimed_since)})
            _add(row, watch, _rows(_SUMMED, experiment, watch.metric, start, end))
            WatchedMetric.objects.filter(pk=row.pk).update(summed_until=end)
            more |= end != FOREVER
    return more


def _end_of_piece(query: str, experiment: Experiment, metric: str, start: datetime) -> datetime | None:
    """The time of the first row after PIECE of them; None where there are fewer. Rows of one instant stay together."""
    asked: dict[str, Any] = {"experiment": experiment.pk, "metric": metric, "start": start, "n": PIECE}
    with connection.cursor() as cursor:
        cursor.execute(query, asked)
        row = cursor.fetchone()
        if row is None or row[0] > start:
            return None if row is None else row[0]
        cursor.execute(query, asked | {"start": start + timedelta(microseconds=1), "n": 0})
        row = cursor.fetchone()
    return None if row is None else row[0]


def _rows(query: str, experiment: Experiment, metric: str, start: datetime, end: datetime) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, {"experiment": experiment.pk, "metric": metric, "start": start, "end": end})
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _seal(experiment: Experiment, until: datetime) -> datetime:
    """From now on nothing is added before `until`; until when that holds. A drain holds the same row while it marks decisions."""
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
            query = _NTH_DECISION if watch.kind == "failures" else _NTH_VALUE
            piece = _end_of_piece(query, experiment, watch.metric, start)
            if piece is not None:
                end = min(end, _edge_after(experiment, watch, piece))
                more = True
            compared = compare(experiment, watch, row.compared, start, end)
            WatchedMetric.objects.filter(pk=row.pk).update(compared=compared, compared_until=end)
    return more


def begun(experiment: Experiment, row: WatchedMetric) -> datetime:
    """Until when an arm is compared with the control; before the first time, when the experiment began."""
    # An hour earlier: a web process's clock may be behind the one that wrote the start.
    return row.compared_until or interval_start(experiment.started_at or experiment.created_at) - timedelta(hours=1)


def _edge_after(experiment: Experiment, watch: Watch, at: datetime) -> datetime:
    """The next instant at which a piece may end: nothing that belongs together is cut."""
    if watch.kind == "failures":
        return interval_start(at) + timedelta(seconds=INTERVAL_SECONDS)
    width = bucket_width(experiment)
    return floor_to_bucket(at, width) + width


def compare(
    experiment: Experiment,
    watch: Watch,
    compared: dict[str, Any],
    start: datetime,
    end: datetime | None,
    *,
    last: bool = False,
) -> dict[str, Any]:
    """The comparisons by arm id after decisions from `start` to `end`, which are whole buckets or intervals.

    `last`: for a look, with all that there is from `start` on, and strata that are not full are closed.
    """
    arms = list(experiment.arms.order_by("position").values_list("pk", "is_control"))
    control = next((arm for arm, is_control in arms if is_control), None)
    others = [arm for arm, is_control in arms if not is_control]
    if control is None or watch.kind == "mean":
        return {}
    if watch.kind == "failures":
        return dict(_failures(experiment, watch, compared, (others, control), start, end or FOREVER, last=last))
    return dict(_differences(experiment, watch, compared, (others, control), start, end or FOREVER, last=last))


_COMPARED = """
SELECT r.arm_id, r.decided_at, d.policy_version, r.value
FROM serving_reward AS r JOIN serving_decision AS d ON d.decided_at = r.decided_at AND d.id = r.decision_id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late
    AND r.decided_at >= %(start)s AND r.decided_at < %(end)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s AND d.trial
    AND r.value <> 'NaN'
"""


def _differences(
    experiment: Experiment,
    watch: Watch,
    compared: dict[str, Any],
    arms: tuple[list[int], int],
    start: datetime,
    end: datetime,
    *,
    last: bool,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A group of values is what one policy version decided in one bucket: its allocation was fixed, and no outcome of it steered it."""
    others, control = arms
    rows = _rows(_COMPARED, experiment, watch.metric, start, end)
    width = bucket_width(experiment)
    arm = np.array([row[0] for row in rows], dtype=np.int64)
    at = np.array([row[1].timestamp() for row in rows], dtype=np.float64)
    bucket = np.array([bucket_number(row[1], width) for row in rows], dtype=np.int64)
    version = np.array([row[2] for row in rows], dtype=np.int64)
    values = cut(np.array([row[3] for row in rows], dtype=np.float64), watch.sides)
    # In an order that the ledger alone decides.
    order = np.lexsort((values, arm, at, version, bucket))
    arm, bucket, version, values = arm[order], bucket[order], version[order], values[order]
    changes = (np.diff(bucket) != 0) | (np.diff(version) != 0)
    group = np.concatenate(([0], np.cumsum(changes))) if len(rows) else np.zeros(0, dtype=np.int64)
    for other in others:
        state = ValueStrata.from_dict(compared.get(str(other), {}))
        mine = (arm == other) | (arm == control)
        own, of = arm[mine] == other, group[mine]
        # An arm's comparison begins with its first value.
        begins = 0 if compared.get(str(other)) else _first_of(own, of)
        if begins < len(own):
            state = state.observe(own[begins:], values[mine][begins:], of[begins:], watch.sides, last=last)
        elif last:
            state = state.observe(own[:0], np.zeros(0), of[:0], watch.sides, last=True)
        if state.own or state.waiting:
            yield str(other), state.to_dict()


def _first_of(own: np.ndarray[Any, Any], group: np.ndarray[Any, Any]) -> int:
    """Where the group begins in which the arm is met first; the end where it is not."""
    return int(np.searchsorted(group, group[int(own.argmax())])) if own.any() else len(own)


# Each decision is read once, when its time is sealed. What is not sealed yet is read from the intervals at each look: all of it is timely.
_DECIDED = """
SELECT date_bin(make_interval(secs => %(width)s), decided_at, '1970-01-01+00') AS start, arm_id,
    count(*) FILTER (WHERE fallback_reason IS NOT NULL)::float8, count(*)::float8
FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s AND timely IS NOT FALSE
GROUP BY start, arm_id
"""
_INTERVALS = """
SELECT start, arm_id, failures::float8, decisions::float8 FROM learning_arminterval
WHERE arm_id = ANY(%(arms)s) AND start >= %(start)s AND start < %(end)s
"""


def _failures(
    experiment: Experiment,
    watch: Watch,
    compared: dict[str, Any],
    arms: tuple[list[int], int],
    start: datetime,
    end: datetime,
    *,
    last: bool,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """By ten seconds of decision time; none reaches over an instant at which the split was changed."""
    others, control = arms
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {
            "experiment": experiment.pk,
            "arms": [*others, control],
            "start": start,
            "end": end,
        }
        cursor.execute(_INTERVALS if last else _DECIDED, parameters | {"width": INTERVAL_SECONDS})
        counts = {(at, arm): (failed, decisions) for at, arm, failed, decisions in cursor.fetchall()}
    times = sorted({at for at, _ in counts})
    parts = _parts(experiment, times)
    nothing = (0.0, 0.0)
    for other in others:
        state = FailureStrata.from_dict(compared.get(str(other), {}))
        rows = [(*counts.get((at, other), nothing), *counts.get((at, control), nothing)) for at in times]
        begins = 0
        if not compared.get(str(other)):
            begins = next((i for i, row in enumerate(rows) if row[1]), len(rows))
        if rows[begins:] or last:
            table = np.array(rows[begins:], dtype=np.float64).reshape(-1, 4)
            state = state.observe(table, parts[begins:], watch.sides.above or 0.0, last=last)
        if compared.get(str(other)) or rows[begins:]:
            yield str(other), state.to_dict()


def _parts(experiment: Experiment, times: Sequence[datetime]) -> list[str]:
    """For each instant the last one before it at which the split between two arms was changed."""
    actions = ["experiment.started", "experiment.paused", "experiment.resumed", "experiment.advanced"]
    at = AuditEntry.objects.filter(experiment=experiment.name, action__in=actions).values_list("at", flat=True)
    cuts = sorted(at)
    places = np.searchsorted([cut.timestamp() for cut in cuts], [each.timestamp() for each in times], side="right")
    return ["" if place == 0 else cuts[place - 1].isoformat() for place in places.tolist()]


@dataclass(frozen=True, slots=True)
class Summed:
    """What one watch has summed: values by arm id, and the comparisons by arm id, which reach up to `compared_until`."""

    values: dict[int, ValueSums]
    compared: dict[str, Any]
    compared_until: datetime

    def to_dict(self) -> dict[str, Any]:
        return {
            "values": {str(arm): found.to_dict() for arm, found in self.values.items()},
            "compared": self.compared,
            "compared_until": self.compared_until.isoformat(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Summed":
        values = {int(arm): ValueSums.from_dict(found) for arm, found in state["values"].items()}
        return cls(values, state["compared"], datetime.fromisoformat(state["compared_until"]))


def of_ledger(experiment: Experiment, watch: Watch, row: WatchedMetric, until: datetime = FOREVER) -> Summed:
    """What the ledger, and the base of what it no longer has, say of a watch as far as its row has come: for `rebuild`, in its snapshot.

    `until`: only decisions before it, and only the buckets that begin before it, for a base.
    """
    base = Summed.from_dict(row.base) if row.base else None
    sums = {} if base is None else dict(base.values)
    start = rows_from(experiment) or _EARLIEST
    end_of_values = min(row.summed_until or _EARLIEST, until)
    while start < end_of_values and watch.kind != "failures":
        end = min(_end_of_piece(_NTH_VALUE, experiment, watch.metric, start) or FOREVER, end_of_values)
        for arm, found in sums_of(_rows(_SUMMED, experiment, watch.metric, start, end), watch).items():
            sums[arm] = sums[arm] + found if arm in sums else found
        start = end
    compared = {} if base is None else base.compared
    fresh = WatchedMetric(experiment=experiment, key=row.key)
    start = begun(experiment, fresh) if base is None else base.compared_until
    last = (
        until if until == FOREVER or watch.kind == "failures" else _edge_after(experiment, watch, until - _MICROSECOND)
    )
    end_of_compared = min(row.compared_until or _EARLIEST, last)
    while start < end_of_compared:
        query = _NTH_DECISION if watch.kind == "failures" else _NTH_VALUE
        piece = _end_of_piece(query, experiment, watch.metric, start)
        end = end_of_compared if piece is None else min(end_of_compared, _edge_after(experiment, watch, piece))
        compared = compare(experiment, watch, compared, start, end)
        start = end
    known = set(experiment.arms.values_list("pk", flat=True))
    return Summed({arm: found for arm, found in sums.items() if arm in known}, compared, start)
