"""What an experiment's closed buckets say, in their order: the evidence, the rates of answers, a
policy's models, and delays.

A bucket is learned whole. It belongs to the day that it begins in: where a day ends inside a
bucket, the rest of it is read with that day.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec

from bandits.delay import BINS
from bandits.inference.evidence import Evidence, differences, from_dict
from noregret.experiments.models import Experiment
from serving.ledger import latency

from . import contextual
from .buckets import bucket_width, floor_to_bucket
from .clock import EARLIEST
from .closed_rows import ANSWERED, COUNTED, ROW_COLUMNS, VALUE, Counted, Decided, Row
from .comparing import TOLERANCE, same
from .contextual import replay_models
from .delays import COUNTED as DELAYS
from .evidence import (
    RULES,
    answers_are_compared,
    answers_of,
    bounds_of,
    evidence_of,
    no_answers,
    no_evidence,
    replay,
    replay_counted,
    replay_counted_answers,
    rule_of,
)
from .kept import CHUNK, ByBucket, Span, rows
from .models import ArmStatistics, ExperimentEvidence

_MATURED = f"""
SELECT {ROW_COLUMNS}
FROM serving_reward AS r JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND r.matured
AND r.decided_at >= %(start)s AND r.decided_at < %(end)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s
ORDER BY d.decided_at
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Learned:
    """From the marked rewards, bucket by bucket: `matured` counts them; `models` are a contextual
    policy's, `delays` by arm id."""

    evidence: Evidence | None = None
    answers: Evidence | None = None
    models: dict[str, Any] = field(default_factory=dict)
    delays: dict[int, list[int]] = field(default_factory=dict)
    matured: int = 0


class Piece(msgspec.Struct, frozen=True):
    """What a span's rows say: (arm id, place, count) of delays, and counted decisions in order.
    `closed`: until when buckets are closed."""

    delays: list[tuple[int, int, int]]
    counted: list[Counted]
    closed: datetime | None


class EvidenceSums(ByBucket[Learned]):
    """In ExperimentEvidence, and ArmStatistics.delays."""

    name = "evidence"
    piece = Piece

    def in_pieces(self, experiment: Experiment) -> bool:
        """Where counts are all that the rule needs. A policy's models and the other rules are
        learned row by row, and each row from what came before."""
        return rule_of(experiment) == "conditional" and contextual.policy_of(experiment) is None

    def nothing(self, experiment: Experiment) -> Learned:
        return Learned(
            None if bounds_of(experiment) is None else no_evidence(experiment),
            no_answers(experiment) if answers_are_compared(experiment) else None,
        )

    def from_document(self, experiment: Experiment, document: Any) -> Learned:
        arms = experiment.arms.count()
        evidence, answers = (
            None if document[name] is None else from_dict(document[name]).with_arms(arms)
            for name in ("evidence", "answers")
        )
        delays = {int(arm): counts for arm, counts in document["delays"].items()}
        return Learned(evidence, answers, document["models"], delays, document["matured"])

    def to_document(self, state: Learned) -> Any:
        return {
            "evidence": None if state.evidence is None else state.evidence.to_dict(),
            "answers": None if state.answers is None else state.answers.to_dict(),
            "models": state.models,
            "delays": {str(arm): counts for arm, counts in state.delays.items()},
            "matured": state.matured,
        }

    def after(self, experiment: Experiment, state: Learned, span: Span) -> Learned:
        if self.in_pieces(experiment):
            return super().after(experiment, state, span)
        asked = _asked(experiment, span)
        state = replace(state, delays=_with_delays(state.delays, _delays(asked)))
        state = _with_rows(experiment, state, asked)
        end = min(asked["end"], _answered_until(state, span.closed))
        chunks = rows(COUNTED.format(value=ANSWERED), asked | {"end": end}) if asked["start"] < end else ()
        answers = state.answers
        for counted in _whole_buckets((list(map(Counted._make, chunk)) for chunk in chunks), asked["width"]):
            answers = replay_counted_answers(experiment, answers, counted)
        return replace(state, answers=answers)

    def read(self, experiment: Experiment, span: Span) -> Piece:
        asked = _asked(experiment, span)
        counted: list[Counted] = []
        if asked["start"] < asked["end"]:
            for chunk in rows(COUNTED.format(value=VALUE), asked):
                counted += map(Counted._make, chunk)
        return Piece(_delays(asked), counted, span.closed)

    def joined(self, experiment: Experiment, state: Learned, piece: Piece) -> Learned:
        evidence, answers, matured = state.evidence, state.answers, state.matured
        closed = _answered_until(state, piece.closed)
        chunks = (piece.counted[i : i + CHUNK] for i in range(0, len(piece.counted), CHUNK))
        for counted in _whole_buckets(chunks, bucket_width(experiment.reward_.window_seconds)):
            evidence = replay_counted(experiment, evidence, counted)
            matured += sum(row.decisions for row in counted if row.value is not None)
            answers = replay_counted_answers(experiment, answers, [row for row in counted if row.decided_at < closed])
        delays = _with_delays(state.delays, piece.delays)
        return replace(state, evidence=evidence, answers=answers, matured=matured, delays=delays)

    def differences(self, experiment: Experiment, state: Learned) -> Iterator[str]:
        for row in ArmStatistics.objects.filter(arm__experiment=experiment).select_related("arm").order_by("arm_id"):
            ledger = state.delays.get(row.arm_id, [])
            if row.delays != ledger:
                yield f"{row.arm.name}: delays is {row.delays!r}, the ledger has {ledger!r}"
        try:
            held = ExperimentEvidence.objects.filter(experiment=experiment).first()
        except ValueError as error:
            yield f"evidence: {error}"
            return
        if held is None:
            yield "evidence: there is none"
            return
        if held.matured != state.matured:
            yield f"evidence: matured is {held.matured}, the ledger has {state.matured}"
        if not same(held.learned, state.models):
            yield "what the policy's models learned differs from the ledger's"
        for name, live, wanted in (
            ("evidence", evidence_of(experiment, held), state.evidence),
            ("rates of answers", answers_of(experiment, held), state.answers),
        ):
            if wanted is not None and live is not None:
                for part in differences(live, wanted, TOLERANCE):
                    yield f"{name}: {part} differs from the ledger's"

    def write(self, experiment: Experiment, state: Learned) -> None:
        for arm in experiment.arms.values_list("pk", flat=True):
            ArmStatistics.objects.filter(arm_id=arm).update(delays=state.delays.get(arm, []))
        ExperimentEvidence.objects.filter(experiment=experiment).update(
            matured=state.matured,
            state={} if state.evidence is None or not state.matured else state.evidence.to_dict(),
            answers={} if state.answers is None else state.answers.to_dict(),
            learned=state.models,
            rules=RULES,
        )


def _asked(experiment: Experiment, span: Span) -> dict[str, Any]:
    """The parameters of the queries; `start` and `end` are between buckets."""
    width = bucket_width(experiment.reward_.window_seconds)
    start, end = (next_bucket(at, width) for at in (span.start, span.end))
    return {
        "experiment": experiment.pk,
        "metric": experiment.reward_.metric,
        "with_context": contextual.policy_of(experiment) is not None,
        "window": experiment.reward_.window_seconds,
        "width": width,
        "start": start,
        "end": end,
    }


def _answered_until(state: Learned, closed: datetime | None) -> datetime:
    """The end of the closed buckets: until then a decision may be answered yet."""
    return EARLIEST if closed is None or state.answers is None else closed


def _delays(asked: dict[str, Any]) -> list[tuple[int, int, int]]:
    """How long the feedback took that is asked for."""
    return [(arm, place, count) for chunk in rows(DELAYS, asked) for arm, place, count in chunk]


def _with_delays(delays: dict[int, list[int]], more: Sequence[tuple[int, int, int]]) -> dict[int, list[int]]:
    after = dict(delays)
    for arm, place, count in more:
        after[arm] = latency.add(after.get(arm, []), [0] * place + [count] + [0] * (BINS - 1 - place))
    return after


def _with_rows(experiment: Experiment, state: Learned, asked: dict[str, Any]) -> Learned:
    """With the matured rows that are asked for, one by one: what a rule says that needs more than
    counts, and a policy's models."""
    chunks = (list(map(Row._make, chunk)) for chunk in rows(_MATURED, asked))
    for marked in _whole_buckets(chunks, asked["width"]):
        state = replace(
            state,
            evidence=replay(experiment, state.evidence, marked),
            models=replay_models(experiment, state.models, marked),
            matured=state.matured + len(marked),
        )
    return state


def next_bucket(at: datetime, width: timedelta) -> datetime:
    """The start of the first bucket that begins at an instant or later."""
    start = floor_to_bucket(at, width)
    return start if start == at else start + width


def _whole_buckets(chunks: Iterable[list[Decided]], width: timedelta) -> Iterator[list[Decided]]:
    """The same rows, cut between buckets: what is learned of one is learned at once."""
    held: list[Decided] = []
    for chunk in chunks:
        waiting = held + chunk
        last = floor_to_bucket(waiting[-1].decided_at, width)
        cut = bisect_left(waiting, last, key=attrgetter("decided_at"))
        if cut:
            yield waiting[:cut]
        held = waiting[cut:]
    if held:
        yield held
