"""Closes buckets of decision time whose attribution windows are over, and adds them to the
experiment's evidence.

A bucket is closed once, in order, when nothing can enter it any more: its window and a grace for
what is under way have passed, and the stream is drained past it. What then has a reward is marked
`matured`, and the marks are what `rebuild` replays. A decision that comes into the ledger later
still (a web process kept it on its disk while Redis was away) gets its default reward and is
learned from, but enters no evidence: the buckets after its own were weighed without it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from noregret.experiments.models import Experiment
from serving.ledger import latency

from . import clock, contextual, quarantine, summing
from .buckets import bucket_width, floor_to_bucket
from .closed_rows import ROW_COLUMNS, SERVED, Row, Served
from .closing import can_be_closed_until, is_closed_until, least_step
from .collector import uncollected
from .contextual import replay_models
from .defaults import give_defaults, span_parameters
from .delays import delays_of
from .evidence import answers_of, can_be_weighed, evidence_of, replay, replay_answers, seats_of
from .models import ArmStatistics, ExperimentEvidence

# More decisions than this are closed in several transactions, after an outage for instance.
DECISIONS_AT_ONCE = 200_000

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


def mature(experiment: Experiment, drained_until: datetime) -> int:
    """Close what can be closed; how many outcomes entered. Called under the endpoint's lock."""
    if experiment.started_at is None:
        return 0
    end = can_be_closed_until(experiment, min(drained_until, clock.now()))
    total = 0
    while True:
        with transaction.atomic(), uncollected():
            held = ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
            start = is_closed_until(experiment, held)
            if end - start < least_step(experiment, experiment.arms.count()):
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
    """The end of the buckets from `start` that one transaction closes: about DECISIONS_AT_ONCE
    decisions."""
    with connection.cursor() as cursor:
        cursor.execute(_NTH_DECISION, span_parameters(experiment, start, end) | {"n": DECISIONS_AT_ONCE})
        row = cursor.fetchone()
    width = bucket_width(experiment.reward_.window_seconds)
    return end if row is None else min(end, floor_to_bucket(row[0], width) + width)


def _close(experiment: Experiment, start: datetime, end: datetime) -> list[Row]:
    parameters = span_parameters(experiment, start, end)
    defaults = experiment.reward_.default is not None
    if defaults:
        give_defaults(parameters)
    marked = _mark(experiment, parameters)
    rows = quarantine.without_bad_values(experiment, marked)
    if defaults and len(rows) < len(marked):  # those are as if nobody had answered
        give_defaults(parameters)
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
        quarantine.keep(experiment.name, "decisions", told)


def _served(experiment: Experiment, start: datetime, end: datetime) -> list[Served]:
    with connection.cursor() as cursor:
        cursor.execute(SERVED, span_parameters(experiment, start, end))
        return list(map(Served._make, cursor.fetchall()))


def _add_delays(experiment: Experiment, rows: Sequence[Row]) -> None:
    found = delays_of(experiment, rows)
    for held in ArmStatistics.objects.select_for_update().filter(arm_id__in=found).order_by("arm_id"):
        ArmStatistics.objects.filter(pk=held.pk).update(delays=latency.add(held.delays, found[held.arm_id]))
