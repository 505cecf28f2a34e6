"""Compares an arm with its control in strata, over decisions that nothing can be added to.

Values are compared once their bucket is closed, failures once their time is sealed.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection

from bandits.inference.strata import FailureStrata, ValueStrata
from noregret.experiments.models import Experiment
from noregret.learning.buckets import bucket_number, bucket_width, floor_to_bucket
from noregret.learning.clock import FOREVER
from noregret.learning.evidence import eligible_arms
from noregret.learning.models import WatchedMetric
from noregret.learning.totals import INTERVAL_SECONDS, interval_start
from noregret.trail.models import AuditEntry
from serving.feedback import MAX_VALUE

from .rows import rows_between
from .values import cut
from .watches import Watch


def begun(experiment: Experiment, row: WatchedMetric) -> datetime:
    """Until when an arm is compared with the control; before the first time, when the experiment
    began."""
    # An hour earlier: a web process's clock may be behind the one that wrote the start.
    return row.compared_until or interval_start(experiment.started_at or experiment.created_at) - timedelta(hours=1)


def edge_after(experiment: Experiment, watch: Watch, at: datetime) -> datetime:
    """The next instant at which a piece may end: nothing that belongs together is cut."""
    if watch.kind == "failures":
        return interval_start(at) + timedelta(seconds=INTERVAL_SECONDS)
    width = bucket_width(experiment.reward_.window_seconds)
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
    """The comparisons by arm id after decisions from `start` to `end`, which are whole buckets or
    intervals.

    `last`: for a look, with all that there is from `start` on, and strata that are not full are
    closed.
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
SELECT r.arm_id, r.decided_at, d.policy_version, r.value, d.excluded
FROM serving_reward AS r JOIN serving_decision AS d ON d.decided_at = r.decided_at AND d.id = r.decision_id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late
    AND r.decided_at >= %(start)s AND r.decided_at < %(end)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s AND d.trial
    AND abs(r.value) <= %(most)s
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
    """A group of values is what one policy version decided in one bucket: its allocation was fixed,
    and no outcome of it steered it."""
    others, control = arms
    rows = rows_between(_COMPARED, experiment, watch.metric, start, end, most=MAX_VALUE)
    width = bucket_width(experiment.reward_.window_seconds)
    arm = np.array([row[0] for row in rows], dtype=np.int64)
    at = np.array([row[1].timestamp() for row in rows], dtype=np.float64)
    bucket = np.array([bucket_number(row[1], width) for row in rows], dtype=np.int64)
    version = np.array([row[2] for row in rows], dtype=np.int64)
    values = cut(np.array([row[3] for row in rows], dtype=np.float64), watch.sides)
    eligible = eligible_arms([row[4] for row in rows], {one: i for i, one in enumerate((*others, control))})
    # In an order that the ledger alone decides.
    order = np.lexsort((values, arm, at, version, bucket))
    arm, bucket, version, values = arm[order], bucket[order], version[order], values[order]
    changes = (np.diff(bucket) != 0) | (np.diff(version) != 0)
    group = np.concatenate(([0], np.cumsum(changes))) if len(rows) else np.zeros(0, dtype=np.int64)
    for i, other in enumerate(others):
        state = ValueStrata.from_dict(compared.get(str(other), {}))
        mine = (arm == other) | (arm == control)
        if eligible is not None:  # what was for one of the two alone says nothing of the other
            mine &= eligible[order][:, [i, -1]].all(axis=1)
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


# Each decision is read once, when its time is sealed. What is not sealed yet is read from the
# intervals at each look: all of it is timely.
_DECIDED = """
SELECT date_bin(make_interval(secs => %(width)s), decided_at, '1970-01-01+00') AS start, arm_id,
    count(*) FILTER (WHERE fallback_reason IS NOT NULL)::float8, count(*)::float8, excluded
FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s AND timely IS NOT FALSE
    AND NOT cached
GROUP BY start, arm_id, excluded
"""
# An interval has all of its decisions: what excluded an arm is told beside it, so that it can be
# taken out again. What was answered from the cache is taken out at once: it could not fail, and an
# arm with more traffic has more of it.
_INTERVALS = """
SELECT start, arm_id, failures::float8, decisions::float8, NULL::bigint[] FROM learning_arminterval
WHERE arm_id = ANY(%(arms)s) AND start >= %(start)s AND start < %(end)s
UNION ALL SELECT date_bin(make_interval(secs => %(width)s), decided_at, '1970-01-01+00') AS start, arm_id,
    -count(*) FILTER (WHERE fallback_reason IS NOT NULL)::float8, -count(*)::float8, excluded
FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s AND excluded IS NOT NULL
    AND NOT cached
GROUP BY start, arm_id, excluded
UNION ALL SELECT date_bin(make_interval(secs => %(width)s), decided_at, '1970-01-01+00') AS start, arm_id,
    0, -count(*)::float8, NULL::bigint[]
FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s AND cached
GROUP BY start, arm_id
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
    """By ten seconds of decision time; none reaches over an instant at which the split was
    changed."""
    others, control = arms
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {
            "experiment": experiment.pk,
            "arms": [*others, control],
            "start": start,
            "end": end,
        }
        cursor.execute(_INTERVALS if last else _DECIDED, parameters | {"width": INTERVAL_SECONDS})
        decided = cursor.fetchall()
    times = sorted({row[0] for row in decided})
    parts = _parts(experiment, times)
    # In an interval what excluded an arm is in the whole, and taken out of it; in a count of
    # decisions it stands apart, and is added where it was for both.
    for other in others:
        state = FailureStrata.from_dict(compared.get(str(other), {}))
        rows = _beside(decided, times, other, control, taken_out=last)
        begins = 0
        if not compared.get(str(other)):
            begins = next((i for i, row in enumerate(rows) if row[1]), len(rows))
        if rows[begins:] or last:
            table = np.array(rows[begins:], dtype=np.float64).reshape(-1, 4)
            state = state.observe(table, parts[begins:], watch.sides.above or 0.0, last=last)
        if compared.get(str(other)) or rows[begins:]:
            yield str(other), state.to_dict()


def _beside(
    decided: Sequence[tuple[Any, ...]], times: Sequence[datetime], other: int, control: int, *, taken_out: bool
) -> list[tuple[float, ...]]:
    """For each instant (the arm's failed, decisions, the control's failed, decisions), of requests
    that were for both arms.

    `decided`: (instant, arm, failed, decisions, arms that were excluded). `taken_out`: rows of
    excluded arms are to be taken out of the others, which hold them; else they stand apart.
    """
    place = {at: i for i, at in enumerate(times)}
    counts = np.zeros((len(times), 4))
    for at, arm, failed, decisions, excluded in decided:
        if arm not in (other, control):
            continue
        apart = bool(excluded) and (other in excluded or control in excluded)
        if excluded and apart != taken_out:
            continue
        column = 0 if arm == other else 2
        counts[place[at], column : column + 2] += (failed, decisions)
    return [tuple(row) for row in counts.tolist()]


def _parts(experiment: Experiment, times: Sequence[datetime]) -> list[str]:
    """For each instant the last one before it at which the split between two arms was changed."""
    actions = ["experiment.started", "experiment.paused", "experiment.resumed", "experiment.advanced"]
    at = AuditEntry.objects.filter(experiment=experiment.name, action__in=actions).values_list("at", flat=True)
    cuts = sorted(at)
    places = np.searchsorted([cut.timestamp() for cut in cuts], [each.timestamp() for each in times], side="right")
    return ["" if place == 0 else cuts[place - 1].isoformat() for place in places.tolist()]
