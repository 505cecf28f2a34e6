"""Closes buckets of decision time whose attribution windows are over, and adds them to the experiment's evidence.

A bucket is closed once, in order, when nothing can enter it any more: its window and a grace for what is under way have passed, and the
stream is drained past it. What then has a reward is marked `matured`, and the marks are what `rebuild` replays. A decision that
comes into the ledger later still (a web process kept it on its disk while Redis was away) gets its default reward and is
learned from, but enters no evidence: the buckets after its own were weighed without it.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from django.db import connection, transaction

from bandits.delay import DelayHistograms
from bandits.inference.anytime import Evidence
from bandits.reward import RewardModel
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model
from serving.ledger import latency

from . import clock, contextual
from .models import ArmStatistics, ExperimentEvidence

# Feedback is judged by the database's clock and has two seconds to commit (serving.ledger.rewards).
GRACE_SECONDS = 2.0
# Web processes that hear of an experiment's end late go on deciding for it; so long its buckets are still closed.
AFTER_END = timedelta(minutes=15)
# More decisions than this are closed in several transactions, after an outage for instance.
DECISIONS_AT_ONCE = 200_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Row(NamedTuple):
    """A matured decision with its reward."""

    arm_id: int
    propensities: list[float]  # by position
    value: float
    decided_at: datetime
    delay_seconds: float | None  # of feedback; None for a default reward
    context: str | None  # JSON, where the policy learns from it


ROW_COLUMNS = """
d.arm_id, d.propensities, r.value, d.decided_at,
CASE WHEN r.defaulted THEN NULL ELSE extract(epoch FROM r.recorded_at - r.decided_at)::float8 END,
CASE WHEN %(with_context)s THEN d.context::text END
"""

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

# Feedback that came too late left a row that was never learned: the default takes its place, and keeps it as `late_value`. After
# the insert, so that a late row which made it do nothing is seen; not by its DO UPDATE, which would lock every rewarded row.
_DEFAULTS_FOR_LATE = """
UPDATE serving_reward AS r
SET value = %(default)s, late_value = r.value, recorded_at = clock_timestamp(), late = false, defaulted = true
FROM {decisions} AS d (id, decided_at, arm_id)
WHERE r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND r.late
AND r.experiment_id = %(experiment)s AND r.decided_at >= %(start)s AND r.decided_at < %(end)s
"""

# With a unit that keeps its arm its many decisions are no independent trials: its first one counts.
_FIRST_OF_UNIT = """
AND (d.unit IS NULL OR NOT EXISTS (
    SELECT 1 FROM serving_decision AS earlier
    WHERE earlier.experiment_id = d.experiment_id AND earlier.unit = d.unit {of_arm}
    AND (earlier.decided_at, earlier.id) < (d.decided_at, d.id)))
"""
# A canary that grows takes units over from the control: there they begin anew.
_OF_ARM = "AND earlier.arm_id = d.arm_id"

_MARK = """
UPDATE serving_reward AS r SET matured = true
FROM serving_decision AS d
WHERE r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s
AND d.experiment_id = %(experiment)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s
AND r.decided_at >= %(start)s AND r.decided_at < %(end)s
AND NOT r.late AND NOT r.matured AND d.fallback_reason IS NULL
{first_of_unit}
RETURNING {columns}
"""

_NTH_DECISION = """
SELECT decided_at FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s
ORDER BY decided_at OFFSET %(n)s LIMIT 1
"""


def bucket_width(experiment: Experiment) -> timedelta:
    """A sixtieth of the window, a second at least and a minute at most: a bucket must fit into memory, whatever the window."""
    sixtieth = timedelta(seconds=experiment.reward["window_seconds"]) / 60
    return min(max(timedelta(seconds=1), sixtieth), timedelta(minutes=1))


def bucket_number(at: datetime, width: timedelta) -> int:
    """The bucket that an instant lies in, counted from 1970. Whole numbers throughout: in floating point an instant at the edge
    would lie in one bucket for the query and in the next for the replay."""
    return ((at - _EPOCH) // _MICROSECOND) // (width // _MICROSECOND)


def bucket_start(number: int, width: timedelta) -> datetime:
    return _EPOCH + number * (width // _MICROSECOND) * _MICROSECOND


def floor_to_bucket(at: datetime, width: timedelta) -> datetime:
    return bucket_start(bucket_number(at, width), width)


def _can_be_closed_until(experiment: Experiment, now: datetime) -> datetime:
    """The end of the last bucket whose decisions have all matured."""
    window = timedelta(seconds=experiment.reward["window_seconds"] + GRACE_SECONDS)
    return floor_to_bucket(now - window, bucket_width(experiment))


def _is_closed_until(experiment: Experiment, held: ExperimentEvidence) -> datetime:
    started = experiment.started_at or experiment.created_at
    return held.closed_until or floor_to_bucket(started, bucket_width(experiment))


def overdue_seconds(experiment: Experiment, now: datetime) -> float:
    """For how long the next bucket could have been closed; negative while it can't be."""
    window = timedelta(seconds=experiment.reward["window_seconds"] + GRACE_SECONDS)
    end = _is_closed_until(experiment, experiment.evidence) + bucket_width(experiment)
    return (now - window - end).total_seconds()


def mature(experiment: Experiment, drained_until: datetime) -> int:
    """Close what can be closed; how many outcomes entered. Called under the endpoint's lock."""
    if experiment.started_at is None:
        return 0
    end = _can_be_closed_until(experiment, min(drained_until, clock.now()))
    total = 0
    while True:
        with transaction.atomic():
            held = ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
            start = _is_closed_until(experiment, held)
            if end <= start:
                return total
            until = _at_once(experiment, start, end)
            rows = _close(experiment, start, until)
            evidence = replay(experiment, evidence_of(experiment, held), rows)
            ExperimentEvidence.objects.filter(pk=held.pk).update(
                closed_until=until,
                matured=held.matured + len(rows),
                state={} if evidence is None else evidence.to_dict(),
                learned=replay_models(experiment, held.learned, rows),
            )
            _add_delays(experiment, rows)
        total += len(rows)


def _at_once(experiment: Experiment, start: datetime, end: datetime) -> datetime:
    """The end of the buckets from `start` that one transaction closes: about DECISIONS_AT_ONCE decisions."""
    with connection.cursor() as cursor:
        cursor.execute(_NTH_DECISION, _parameters(experiment, start, end) | {"n": DECISIONS_AT_ONCE})
        row = cursor.fetchone()
    width = bucket_width(experiment)
    return end if row is None else min(end, floor_to_bucket(row[0], width) + width)


def _close(experiment: Experiment, start: datetime, end: datetime) -> list[Row]:
    canary = experiment.strategy == Experiment.Strategy.CANARY
    keeps_arm = canary or experiment.strategy == Experiment.Strategy.AB or experiment.sticky
    first_of_unit = _FIRST_OF_UNIT.format(of_arm=_OF_ARM if canary else "") if keeps_arm else ""
    parameters = _parameters(experiment, start, end)
    if experiment.reward["default"] is not None:
        _give_defaults(_OF_BUCKETS, parameters)
    with connection.cursor() as cursor:
        cursor.execute(
            _MARK.format(columns=ROW_COLUMNS, first_of_unit=first_of_unit),
            parameters | {"with_context": contextual.policy_of(experiment) is not None},
        )
        rows = [Row(*row) for row in cursor.fetchall()]
    rows.sort(key=lambda row: row.decided_at)
    return rows


def _parameters(experiment: Experiment, start: datetime, end: datetime) -> dict[str, Any]:
    reward = experiment.reward
    return {
        "metric": reward["metric"],
        "default": reward["default"],
        "experiment": experiment.pk,
        "start": start,
        "end": end,
    }


def _give_defaults(decisions: str, parameters: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_DEFAULTS.format(decisions=decisions), parameters)
        cursor.execute(_DEFAULTS_FOR_LATE.format(decisions=decisions), parameters)


def give_defaults_to_stragglers(experiment_id: int, decisions: Sequence[tuple[UUID, datetime, int]]) -> None:
    """Default rewards for those of new decisions (id, decided at, arm id) whose bucket is closed; in the transaction that inserts them.

    Without them only what was rewarded among such decisions would be learned: every arm would look better than it is. The
    caller leaves out what the arm could not serve.
    """
    if not decisions:
        return
    times = [decided_at for _, decided_at, _ in decisions]
    held = (
        ExperimentEvidence.objects.select_related("experiment")
        .filter(experiment_id=experiment_id, closed_until__gt=min(times))
        .first()
    )
    if held is None or held.closed_until is None or held.experiment.reward["default"] is None:
        return
    late = [decision for decision in decisions if decision[1] < held.closed_until]
    listed = {
        "ids": [decision_id for decision_id, _, _ in late],
        "times": [decided_at for _, decided_at, _ in late],
        "arms": [arm for _, _, arm in late],
    }
    _give_defaults(_LISTED, _parameters(held.experiment, min(times), held.closed_until) | listed)


def bounds_of(experiment: Experiment) -> tuple[RewardModel, tuple[float, float]] | None:
    """The reward and its bounds, or None where it has none, and so no anytime evidence."""
    model = reward_model(experiment)
    return None if model.bounds is None else (model, model.bounds)


def evidence_of(experiment: Experiment, held: ExperimentEvidence) -> Evidence | None:
    """The evidence as it stands; None for a reward without bounds."""
    if bounds_of(experiment) is None:
        return None
    if not held.state:
        return no_evidence(experiment)
    # An arm that was added since begins without evidence.
    return Evidence.from_dict(held.state).with_arms(experiment.arms.count())


def no_evidence(experiment: Experiment) -> Evidence:
    """What an experiment begins with."""
    indifference = float((experiment.promotion or {}).get("indifference", 0.0))
    return Evidence.empty(experiment.arms.count(), indifference)


def replay(experiment: Experiment, evidence: Evidence | None, rows: Iterable[Row]) -> Evidence | None:
    """The evidence after these rows, which come in order of decision time, whole buckets at a time.

    Rows that can't be weighed are passed over, here and in a rebuild alike: a damaged row must not stop all others.
    """
    bounded = bounds_of(experiment)
    if evidence is None or bounded is None:
        return None
    model, (low, high) = bounded
    position = {arm: i for i, arm in enumerate(experiment.arms.order_by("position").values_list("pk", flat=True))}
    for bucket in _buckets((row for row in rows if _can_be_weighed(row, position)), bucket_width(experiment)):
        outcome = np.clip((np.array([row.value for row in bucket]) - low) / (high - low), 0.0, 1.0)
        if model.direction == "minimize":
            outcome = 1.0 - outcome
        evidence = evidence.observe(
            np.array([position[row.arm_id] for row in bucket]),
            outcome,
            np.array([padded(row.propensities, len(position)) for row in bucket]),
        )
    return evidence


def replay_models(experiment: Experiment, state: dict[str, Any], rows: Iterable[Row]) -> dict[str, Any]:
    """The models of a contextual policy after these rows, as for `replay`; the state as it was for every other."""
    policy = contextual.policy_of(experiment)
    if policy is None:
        return state
    models = contextual.Models(experiment, policy, state, reward_model(experiment))
    position = {arm: i for i, arm in enumerate(experiment.arms.order_by("position").values_list("pk", flat=True))}
    learned = False
    for bucket in _buckets((row for row in rows if row.arm_id in position), bucket_width(experiment)):
        # In an order that the ledger alone decides, also where two were decided in the same microsecond: a discount depends on it.
        bucket.sort(key=lambda row: (row.decided_at, row.arm_id, row.value, row.context or ""))
        models.learn([(position[row.arm_id], row.value, row.context) for row in bucket])
        learned = True
    return models.to_dict() if learned else state


def delays_of(experiment: Experiment, rows: Sequence[Row]) -> dict[int, list[int]]:
    """Counts of feedback by delay, for each arm id that had some."""
    timed = [(row.arm_id, row.delay_seconds) for row in rows if row.delay_seconds is not None]
    arms = sorted({arm for arm, _ in timed})
    position = {arm: i for i, arm in enumerate(arms)}
    counts = DelayHistograms.of(
        np.array([position[arm] for arm, _ in timed], dtype=np.int64),
        np.array([max(delay, 0.0) for _, delay in timed]),
        experiment.reward["window_seconds"],
        len(arms),
    ).counts
    return {arm: [int(count) for count in counts[i]] for arm, i in position.items()}


def _add_delays(experiment: Experiment, rows: Sequence[Row]) -> None:
    found = delays_of(experiment, rows)
    for held in ArmStatistics.objects.select_for_update().filter(arm_id__in=found).order_by("arm_id"):
        ArmStatistics.objects.filter(pk=held.pk).update(delays=latency.add(held.delays, found[held.arm_id]))


def padded(propensities: Sequence[float], arms: int) -> list[float]:
    """For `arms` arms: one that was added after a decision had no chance then."""
    return [*propensities, *([0.0] * (arms - len(propensities)))]


def _can_be_weighed(row: Row, position: dict[int, int]) -> bool:
    """Does its arm belong to the experiment, and had every arm of that time a probability, the chosen one's more than 0?"""
    seat = position.get(row.arm_id)
    if seat is None or not seat < len(row.propensities) <= len(position) or not row.propensities[seat] > 0.0:
        return False
    # Fewer than there are arms now: before some were added, all of them; or else the row is damaged.
    return len(row.propensities) == len(position) or abs(sum(row.propensities) - 1.0) < 1e-6


def _buckets(rows: Iterable[Row], width: timedelta) -> Iterator[list[Row]]:
    for _, bucket in groupby(rows, key=lambda row: bucket_number(row.decided_at, width)):
        yield list(bucket)
