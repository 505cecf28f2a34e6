"""Closes buckets of decision time whose attribution windows are over, and adds them to the experiment's evidence.

A bucket is closed once, in order, when nothing can enter it any more: its window and a grace for what is under way have passed, and the
stream is drained past it. What then has a reward is marked `matured`, and the marks are what `rebuild` replays. A decision that
comes into the ledger later still (a web process kept it on its disk while Redis was away) gets its default reward and is
learned from, but enters no evidence: the buckets after its own were weighed without it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection, transaction

from bandits.delay import DelayHistograms
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import reward_model
from serving.ledger import latency
from serving.ledger.ingest import StreamedDecision

from . import clock, contextual, quarantine, summing
from .collector import uncollected
from .models import ArmStatistics, ExperimentEvidence
from .weighing import (
    Row,
    Served,
    answers_of,
    bucket_width,
    buckets,
    can_be_weighed,
    evidence_of,
    floor_to_bucket,
    replay,
    replay_answers,
    seats_of,
)

# Feedback is judged by the database's clock and has two seconds to commit (serving.ledger.rewards).
GRACE_SECONDS = 2.0
# Web processes that hear of an experiment's end late go on deciding for it; so long its buckets are still closed.
AFTER_END = timedelta(minutes=15)
# Nobody waits for the last buckets of an ended experiment: closed one by one, a hundred of them would keep the learner from all others.
ENDED_PAUSE = timedelta(minutes=1)
_REST_A_PAIR = timedelta(milliseconds=1)
LONGEST_REST = timedelta(seconds=30)
# More decisions than this are closed in several transactions, after an outage for instance.
DECISIONS_AT_ONCE = 200_000

ROW_COLUMNS = """
d.arm_id, d.propensities, r.value, d.decided_at,
CASE WHEN r.defaulted THEN NULL ELSE extract(epoch FROM r.recorded_at - r.decided_at)::float8 END,
CASE WHEN %(with_context)s THEN d.context::text END, d.policy_version, d.id
"""

# Every trial that its arm served, of closed buckets, answered or not.
SERVED = """
SELECT d.arm_id, d.propensities, d.decided_at, d.policy_version, EXISTS (
    SELECT 1 FROM serving_reward AS r
    WHERE r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND r.matured
    AND r.decided_at >= %(start)s AND r.decided_at < %(end)s)
FROM serving_decision AS d
WHERE d.experiment_id = %(experiment)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s
AND d.trial AND d.fallback_reason IS NULL
ORDER BY d.decided_at
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
SET value = %(default)s, late_value = r.value, recorded_at = clock_timestamp(), late = false, defaulted = true, summed = false
FROM {decisions} AS d (id, decided_at, arm_id)
WHERE r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND r.late
AND r.experiment_id = %(experiment)s AND r.decided_at >= %(start)s AND r.decided_at < %(end)s
"""

_MARK = """
UPDATE serving_reward AS r SET matured = true
FROM serving_decision AS d
WHERE r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s
AND d.experiment_id = %(experiment)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s
AND r.decided_at >= %(start)s AND r.decided_at < %(end)s
AND NOT r.late AND NOT r.matured AND d.trial AND d.fallback_reason IS NULL
RETURNING {columns}
"""

_NTH_DECISION = """
SELECT decided_at FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s
ORDER BY decided_at OFFSET %(n)s LIMIT 1
"""


def _can_be_closed_until(experiment: Experiment, now: datetime) -> datetime:
    """The end of the last bucket whose decisions have all matured."""
    window = timedelta(seconds=experiment.reward["window_seconds"] + GRACE_SECONDS)
    return floor_to_bucket(now - window, bucket_width(experiment))


def is_closed_until(experiment: Experiment, held: ExperimentEvidence) -> datetime:
    """Until when an experiment's buckets are closed; before the first is, when it began."""
    started = experiment.started_at or experiment.created_at
    return held.closed_until or floor_to_bucket(started, bucket_width(experiment))


def _step(experiment: Experiment, arms: int) -> timedelta:
    """How much is closed at once, at least: whole buckets, for evidence has a number a pair of arms and more, and is written as a whole.

    A thousandth of a second a pair: nothing that is felt up to thirty arms, ten seconds with a hundred. Nobody waits at the end.
    """
    width = bucket_width(experiment)
    rest = timedelta(0) if experiment.ended_at is not None else min(arms * arms * _REST_A_PAIR, LONGEST_REST)
    return width * max(-(-rest // width), 1)


def overdue_seconds(experiment: Experiment, arms: int, now: datetime) -> float:
    """For how long the next bucket could have been closed; negative while it can't be."""
    window = timedelta(seconds=experiment.reward["window_seconds"] + GRACE_SECONDS)
    end = is_closed_until(experiment, experiment.evidence) + _step(experiment, arms)
    if experiment.ended_at is not None:
        end += ENDED_PAUSE
    return (now - window - end).total_seconds()


def mature(experiment: Experiment, drained_until: datetime) -> int:
    """Close what can be closed; how many outcomes entered. Called under the endpoint's lock."""
    if experiment.started_at is None:
        return 0
    end = _can_be_closed_until(experiment, min(drained_until, clock.now()))
    total = 0
    while True:
        with transaction.atomic(), uncollected():
            held = ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
            start = is_closed_until(experiment, held)
            if end - start < _step(experiment, experiment.arms.count()):
                return total
            until = _at_once(experiment, start, end)
            rows = _close(experiment, start, until)
            ExperimentEvidence.objects.filter(pk=held.pk).update(
                closed_until=until, matured=held.matured + len(rows), **_sums(experiment, held, rows, start, until)
            )
            _add_delays(experiment, rows)
            summing.closed(experiment, start, until)
        total += len(rows)


def _sums(
    experiment: Experiment, held: ExperimentEvidence, rows: Sequence[Row], start: datetime, end: datetime
) -> dict[str, dict[str, Any]]:
    """The columns of evidence that these buckets change."""
    changed: dict[str, dict[str, Any]] = {}
    if rows:
        unread: list[Row] = []
        evidence = replay(experiment, evidence_of(experiment, held), rows)
        learned = replay_models(experiment, held.learned, rows, unread)
        _tell(experiment, rows, unread)
        if evidence is not None:
            changed["state"] = evidence.to_dict()
        if contextual.policy_of(experiment) is not None:
            changed["learned"] = learned
    answers = answers_of(experiment, held)
    served = [] if answers is None else _served(experiment, start, end)
    if answers is not None and served:
        answers = replay_answers(experiment, answers, served)
        changed["answers"] = {} if answers is None else answers.to_dict()
    return changed


def _at_once(experiment: Experiment, start: datetime, end: datetime) -> datetime:
    """The end of the buckets from `start` that one transaction closes: about DECISIONS_AT_ONCE decisions."""
    with connection.cursor() as cursor:
        cursor.execute(_NTH_DECISION, _parameters(experiment, start, end) | {"n": DECISIONS_AT_ONCE})
        row = cursor.fetchone()
    width = bucket_width(experiment)
    return end if row is None else min(end, floor_to_bucket(row[0], width) + width)


def _close(experiment: Experiment, start: datetime, end: datetime) -> list[Row]:
    parameters = _parameters(experiment, start, end)
    defaults = experiment.reward["default"] is not None
    if defaults:
        _give_defaults(_OF_BUCKETS, parameters)
    marked = _mark(experiment, parameters)
    rows = quarantine.without_bad_values(experiment, marked)
    if defaults and len(rows) < len(marked):  # those are as if nobody had answered
        _give_defaults(_OF_BUCKETS, parameters)
        rows += quarantine.without_bad_values(experiment, _mark(experiment, parameters))
    rows.sort(key=lambda row: row.decided_at)
    return rows


def _mark(experiment: Experiment, parameters: dict[str, Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(
            _MARK.format(columns=ROW_COLUMNS),
            parameters | {"with_context": contextual.policy_of(experiment) is not None},
        )
        return list(map(Row._make, cursor.fetchall()))


def _tell(experiment: Experiment, rows: Sequence[Row], unread: Sequence[Row]) -> None:
    """Point to the decisions that are passed over."""
    seats = seats_of(experiment)
    unweighed = [row for row in rows if not can_be_weighed(row, seats)]
    for bad, problem in ((unweighed, quarantine.NOT_WEIGHABLE), (unread, quarantine.NOT_READABLE)):
        told = [
            quarantine.BadRow(
                row.decision_id,
                row.decided_at,
                problem,
                {"arm": row.arm_id, "propensities": row.propensities, "context": row.context},
            )
            for row in bad
        ]
        quarantine.keep(experiment, "decisions", told)


def _served(experiment: Experiment, start: datetime, end: datetime) -> list[Served]:
    with connection.cursor() as cursor:
        cursor.execute(SERVED, _parameters(experiment, start, end))
        return list(map(Served._make, cursor.fetchall()))


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


def give_defaults_to_stragglers(held: ExperimentEvidence, decisions: Sequence[StreamedDecision]) -> None:
    """Default rewards for those of new decisions whose bucket is closed; in the transaction that inserts them.

    Without them only what was rewarded among such decisions would be learned: every arm would look better than it is. What the
    arm could not serve gets none.
    """
    closed = held.closed_until
    if closed is None or held.experiment.reward["default"] is None:
        return
    late = [one for one in decisions if one.event.fallback_reason is None and one.decided_at < closed]
    if not late:
        return
    times = [one.decided_at for one in late]
    listed = {"ids": [one.id for one in late], "times": times, "arms": [one.event.arm_id for one in late]}
    _give_defaults(_LISTED, _parameters(held.experiment, min(times), closed) | listed)
    ExperimentEvidence.objects.filter(pk=held.pk, folded_until__gt=min(times)).update(folded_until=min(times))


def replay_models(
    experiment: Experiment, state: dict[str, Any], rows: Sequence[Row], unread: list[Row] | None = None
) -> dict[str, Any]:
    """The models of a contextual policy after these rows, as for `replay`; the state as it was for every other.

    Rows whose context can't be read are passed over, and added to `unread`.
    """
    policy = contextual.policy_of(experiment)
    if policy is None:
        return state
    models = contextual.Models(experiment, policy, state, reward_model(experiment))
    position = seats_of(experiment)
    learned = False
    for part in buckets([row for row in rows if row.arm_id in position], bucket_width(experiment)):
        # In an order that the ledger alone decides, also where two were decided in the same microsecond: a discount depends on it.
        bucket = sorted(part, key=lambda row: (row.decided_at, row.arm_id, row.value, row.context or ""))
        places = models.learn([(position[row.arm_id], row.value, row.context) for row in bucket])
        if unread is not None:
            unread.extend(bucket[place] for place in places)
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
