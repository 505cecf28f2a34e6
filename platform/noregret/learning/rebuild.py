"""Computes what was learned anew, from the ledger alone, and holds it against the live state.

Day by day, in one snapshot of the database: every step of learning commits its rows, its marks and
its sums together, so within a snapshot they agree, whoever learns meanwhile. A comparison so needs
no lock and stops nobody. A rebuild computes in the same way, and then catches up with what was
learned meanwhile: first beside the learner, and for what is left with the evidence row locked, in
the transaction that replaces the live sums. Where days of the ledger were dropped, both go on from
the base that was stored for them.

What can be computed of spans of days, or of classes of units, by themselves are parts
(noregret.learning.parts): this process computes them, or Celery workers do, in the same snapshot.

Not computed: until when buckets are closed. That is no sum over the ledger but how far learning has
come.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import Any, Self
from uuid import UUID

import structlog
from django.db import transaction

from noregret.experiments.models import Endpoint, Experiment
from serving.ledger import horizon

from . import kept_intervals, meanwhile
from .closing import first_bucket
from .collector import uncollected
from .kept import ByBucket, KeptSum, Noted, Resummed, Span, kept_sums, resummed, snapshot, spans_of
from .models import SUMS, Addition, ExperimentEvidence, LedgerBase
from .parts import Alone, Compute, SpanPiece, SpanSums
from .trials import mark_trials
from .unpublished import Learned, note

log = structlog.get_logger(__name__)

ATTEMPTS = 3
PASSES = 5
SHORT_SECONDS = 0.5
"""A pass of catching up that took no longer leaves little for the locked one."""


class RebuildOvertaken(Exception):
    """Another rebuild of the same experiment, or a change of the ledger's rows, came between each
    time."""


def rebuild(
    experiment: Experiment, *, write: bool, learned: Learned = note, compute: Compute | None = None
) -> list[str]:
    """The differences between ledger and live state, a sentence each; with `write` the live state
    is then replaced, and `learned` told in that transaction. `compute`: who computes the parts,
    this process by default.

    Raises RebuildOvertaken, and what `compute` raises.
    """
    compute = compute or Alone()
    if not write:
        with snapshot():
            computed, others = _computed(experiment, compute)
            return [*computed.differences(), *(difference for _, told in others for difference in told)]
    mark_trials(experiment)
    for _ in range(ATTEMPTS):
        differences = _replace(experiment, learned, compute)
        if differences is not None:
            return differences
    raise RebuildOvertaken(f"{experiment.name} was rebuilt, or a unit of it forgotten, by another meanwhile; try again")


def _computed(experiment: Experiment, compute: Compute) -> "tuple[Computed, list[tuple[Resummed, list[str]]]]":
    """What the ledger says, and in what each sum of the other kind differs. In a snapshot."""
    computed = Computed(experiment, compare=True)
    parts = [(each, each.parts(experiment, computed.spans, compute.at_once)) for each in resummed()]
    with closing(compute(experiment, [*computed.parts, *(part for _, of_it in parts for part in of_it)])) as pieces:
        computed.join(pieces)
        others = [(each, list(each.differences(experiment, list(islice(pieces, len(of_it)))))) for each, of_it in parts]
    return computed, others


def _replace(experiment: Experiment, learned: Learned, compute: Compute) -> list[str] | None:
    """One attempt; None where another came between."""
    with transaction.atomic():
        token = meanwhile.begin(experiment)
    try:
        with snapshot():
            computed, others = _computed(experiment, compute)
            differences = list(computed.differences())
        kept_intervals.mend(experiment, computed.intervals)
        for _ in range(PASSES):
            began = time.monotonic()
            with snapshot():
                computed.catch_up()
            if time.monotonic() - began < SHORT_SECONDS:
                break
        if not _swap(experiment, computed, token, learned):
            return None
        for part, of_part in others:
            if of_part:
                with transaction.atomic():
                    part.make(experiment)
                differences += of_part
        return differences
    finally:
        with transaction.atomic():
            meanwhile.end(experiment, token)


def _swap(experiment: Experiment, computed: "Computed", token: UUID, learned: Learned) -> bool:
    with transaction.atomic():
        # In the order in which the learner locks them.
        Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        held = ExperimentEvidence.objects.defer(*SUMS).select_for_update().get(experiment=experiment)
        if not meanwhile.is_noted_for(held, token) or horizon.rewritten() != computed.rewritten:
            return False
        computed.catch_up()
        computed.write()
        meanwhile.end(experiment, token)
        learned(experiment)
    return True


class Computed:
    """What the ledger says of one experiment: each kept sum by name. Made, joined and brought up to
    date in a snapshot of the database.

    `until`: only the days before it, for a base. `compare`: find the intervals that differ from the
    live ones too. It says nothing before `join` was given the pieces of `parts`.
    """

    def __init__(self, experiment: Experiment, *, until: datetime | None = None, compare: bool = False) -> None:
        horizon.hold_days()
        self.rewritten = horizon.rewritten()
        self.intervals = kept_intervals.Differing()
        self._experiment = experiment
        base = LedgerBase.objects.filter(experiment=experiment).first()
        documents: dict[str, Any] = {} if base is None else base.sums
        self._sums: dict[str, tuple[KeptSum[Any], Any]] = {}
        for kept in kept_sums():
            document = documents.get(kept.name)
            state = kept.nothing(experiment) if document is None else kept.from_document(experiment, document)
            self._sums[kept.name] = (kept, state)
        self._closed = self._closed_until()
        self._noted = self._notes()
        self.spans = spans_of(experiment, self._closed, None if base is None else base.until, until)
        self.parts = [SpanSums(span.start, span.end, span.closed, compare) for span in self.spans]

    def join(self, pieces: Iterator[SpanPiece]) -> None:
        """Take the pieces of `parts`, in order, and read what can't be read in pieces."""
        for span, piece in zip(self.spans, pieces, strict=False):
            with uncollected():
                for name, (kept, state) in self._sums.items():
                    joined = (
                        kept.joined(self._experiment, state, piece.sums[name])
                        if name in piece.sums
                        else kept.after(self._experiment, state, span)
                    )
                    self._sums[name] = (kept, joined)
            self.intervals.add(piece.intervals)

    def by_itself(self) -> Self:
        """With its parts computed here and now."""
        self.join(Alone()(self._experiment, self.parts))
        return self

    def _with_buckets(self, span: Span) -> None:
        with uncollected():
            for name, (kept, state) in self._sums.items():
                if isinstance(kept, ByBucket):
                    self._sums[name] = (kept, kept.after(self._experiment, state, span))

    def _closed_until(self) -> datetime | None:
        rows = ExperimentEvidence.objects.filter(experiment=self._experiment)
        return rows.values_list("closed_until", flat=True).first()

    def _notes(self) -> set[int]:
        return set(Addition.objects.filter(experiment=self._experiment).values_list("pk", flat=True))

    def catch_up(self) -> None:
        """Add what was learned since."""
        closed, before = self._closed_until(), self._closed
        if closed is not None and closed != before:
            self._with_buckets(Span(before or first_bucket(self._experiment), closed, closed))
            self._closed = closed
        for pk, name, document in (
            Addition.objects.filter(experiment=self._experiment)
            .exclude(pk__in=self._noted)
            .order_by("pk")
            .values_list("pk", "sum", "document")
        ):
            kept, state = self._sums[name]
            if isinstance(kept, Noted):
                self._sums[name] = (kept, kept.plus(self._experiment, state, document))
            self._noted.add(pk)

    def differences(self) -> Iterator[str]:
        for kept, state in self._sums.values():
            yield from kept.differences(self._experiment, state)
        yield from self.intervals.differences()

    def write(self) -> None:
        """In the caller's transaction, with the evidence locked."""
        for kept, state in self._sums.values():
            kept.write(self._experiment, state)

    def documents(self) -> dict[str, Any]:
        """As a base stores them."""
        return {name: kept.to_document(state) for name, (kept, state) in self._sums.items()}
