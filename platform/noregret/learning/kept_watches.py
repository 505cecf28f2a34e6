"""What guardrails watch, and what copies sum up to, held against the ledger and made anew from it:
each a `kept.Resummed`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from noregret.experiments.models import Experiment

from . import shadow_sums
from .clock import EARLIEST, FOREVER
from .comparing import same
from .kept import Part, Span, rows_from
from .models import SUMS, ExperimentEvidence, ShadowStatistics, WatchedMetric, WatchedValues
from .shadow_sums import ShadowSums
from .unfinished import unsettled
from .watched.comparisons import begun, compare, edge_after
from .watched.rows import NTH_DECISION, NTH_VALUE, SUMMED, end_of_piece, rows_between
from .watched.values import ValueSums, of_row, sums_of, values_row
from .watched.watches import Watch, watches_of

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Summed:
    """What one watch has summed: values by arm id, and the comparisons by arm id, which reach up to
    `compared_until`."""

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
    """What the ledger, and the base of what it no longer has, say of a watch as far as its row has
    come: for `rebuild`, in its snapshot.

    `until`: only decisions before it, and only the buckets that begin before it, for a base.
    """
    base = Summed.from_dict(row.base) if row.base else None
    sums = {} if base is None else dict(base.values)
    start = rows_from(experiment) or EARLIEST
    end_of_values = min(row.summed_until or EARLIEST, until)
    while start < end_of_values and watch.kind != "failures":
        end = min(end_of_piece(NTH_VALUE, experiment, watch.metric, start) or FOREVER, end_of_values)
        for arm, found in sums_of(rows_between(SUMMED, experiment, watch.metric, start, end), watch).items():
            sums[arm] = sums[arm] + found if arm in sums else found
        start = end
    compared = {} if base is None else base.compared
    fresh = WatchedMetric(experiment=experiment, key=row.key)
    start = begun(experiment, fresh) if base is None else base.compared_until
    last = (
        until if until == FOREVER or watch.kind == "failures" else edge_after(experiment, watch, until - _MICROSECOND)
    )
    end_of_compared = min(row.compared_until or EARLIEST, last)
    while start < end_of_compared:
        query = NTH_DECISION if watch.kind == "failures" else NTH_VALUE
        piece = end_of_piece(query, experiment, watch.metric, start)
        end = end_of_compared if piece is None else min(end_of_compared, edge_after(experiment, watch, piece))
        compared = compare(experiment, watch, compared, start, end)
        start = end
    known = set(experiment.arms.values_list("pk", flat=True))
    return Summed({arm: found for arm, found in sums.items() if arm in known}, compared, start)


class Watched(Part, frozen=True, tag="watched"):
    """What one watch has summed."""

    key: str

    def compute(self, experiment: Experiment) -> dict[str, Any]:
        row = WatchedMetric.objects.get(experiment=experiment, key=self.key)
        return of_ledger(experiment, watches_of(experiment)[self.key], row).to_dict()


class Shadowed(Part, frozen=True, tag="shadowed"):
    """What the copies of one challenger sum up to."""

    arm: int

    def compute(self, experiment: Experiment) -> dict[str, Any]:
        return shadow_sums.of_ledger(experiment, ShadowStatistics.objects.get(pk=self.arm)).to_dict()


class WatchedSums:
    """In WatchedMetric and WatchedValues. As far as each has come: what lies beyond, the learner
    adds in its rounds."""

    def parts(self, experiment: Experiment, spans: Sequence[Span], at_once: int) -> Sequence[Part]:
        return [Watched(row.key) for row, _ in _watched(experiment)]

    def differences(self, experiment: Experiment, pieces: Sequence[Any]) -> Iterator[str]:
        names = dict(experiment.arms.values_list("pk", "name"))
        for (row, _), piece in zip(_watched(experiment), pieces, strict=True):
            ledger = Summed.from_dict(piece)
            held = {each.arm_id: of_row(each) for each in WatchedValues.objects.filter(watched=row)}
            for arm in sorted(ledger.values.keys() | held.keys()):
                live, found = held.get(arm), ledger.values.get(arm)
                if live is None or found is None or not same(live.to_dict(), found.to_dict()):
                    yield f"{names.get(arm, arm)}: the values of {row.key} differ from the ledger's"
            if not same(row.compared, ledger.compared):
                yield f"{row.key}: the comparison with the control differs from the ledger's"

    def make(self, experiment: Experiment) -> None:
        ExperimentEvidence.objects.defer(*SUMS).select_for_update().get(experiment=experiment)
        for row, watch in _watched(experiment, lock=True):
            ledger = of_ledger(experiment, watch, row)
            WatchedMetric.objects.filter(pk=row.pk).update(compared=ledger.compared)
            WatchedValues.objects.filter(watched=row).delete()
            WatchedValues.objects.bulk_create(values_row(row, arm, found) for arm, found in ledger.values.items())

    def set_aside(self, experiment: Experiment, start: datetime, end: datetime) -> bool:
        goes_on = unsettled().filter(pk=experiment.pk).exists()
        for row, watch in _watched(experiment, lock=True):
            base = of_ledger(experiment, watch, row, until=end)
            if watch.kind != "failures" and (row.summed_until is None or row.summed_until < end):
                return False
            if watch.kind != "mean" and goes_on and base.compared_until < end:
                return False
            WatchedMetric.objects.filter(pk=row.pk).update(base=base.to_dict())
        return True


class ShadowedSums:
    """In ShadowStatistics."""

    def parts(self, experiment: Experiment, spans: Sequence[Span], at_once: int) -> Sequence[Part]:
        return [Shadowed(row.pk) for row in _challengers(experiment)]

    def differences(self, experiment: Experiment, pieces: Sequence[Any]) -> Iterator[str]:
        for row, ledger in zip(_challengers(experiment), pieces, strict=True):
            if not same(ShadowSums.from_dict(row.sums).to_dict(), ledger):
                yield f"{row.arm.name}: what its predictions on copies sum up to differs from the ledger's"

    def make(self, experiment: Experiment) -> None:
        for arm, row in shadow_sums.locked(experiment.pk).items():
            ledger = shadow_sums.of_ledger(experiment, row).to_dict()
            ShadowStatistics.objects.filter(pk=arm).update(sums=ledger)

    def set_aside(self, experiment: Experiment, start: datetime, end: datetime) -> bool:
        for arm, row in shadow_sums.locked(experiment.pk).items():
            if row.summed_until is None or row.summed_until < end:
                return False
            base = shadow_sums.of_ledger(experiment, row, until=end).to_dict()
            ShadowStatistics.objects.filter(pk=arm).update(base=base)
        return True


def _challengers(experiment: Experiment) -> QuerySet[ShadowStatistics]:
    return ShadowStatistics.objects.filter(arm__experiment=experiment).select_related("arm").order_by("arm_id")


def _watched(experiment: Experiment, *, lock: bool = False) -> list[tuple[WatchedMetric, Watch]]:
    watches = watches_of(experiment)
    rows = WatchedMetric.objects.filter(experiment=experiment, key__in=watches).order_by("pk")
    return [(row, watches[row.key]) for row in (rows.select_for_update() if lock else rows)]
