"""What guardrails watch, and what predictions on copies sum up to, held against the ledger and made anew from it."""

from collections.abc import Iterator
from datetime import datetime

from noregret.experiments.models import Experiment

from . import shadow_sums, watching
from .comparing import same
from .kept import Resummed
from .models import ExperimentEvidence, ShadowStatistics, WatchedMetric, WatchedValues
from .pending import unsettled
from .shadow_sums import ShadowSums
from .watches import Watch, watches_of


class WatchedSums(Resummed):
    """In WatchedMetric and WatchedValues. As far as each has come: what lies beyond, the learner adds in its rounds."""

    def differences(self, experiment: Experiment) -> Iterator[str]:
        names = dict(experiment.arms.values_list("pk", "name"))
        for row, watch in _watched(experiment):
            ledger = watching.of_ledger(experiment, watch, row)
            held = {each.arm_id: watching.of_row(each) for each in WatchedValues.objects.filter(watched=row)}
            for arm in sorted(ledger.values.keys() | held.keys()):
                live, found = held.get(arm), ledger.values.get(arm)
                if live is None or found is None or not same(live.to_dict(), found.to_dict()):
                    yield f"{names.get(arm, arm)}: the values of {row.key} differ from the ledger's"
            if not same(row.compared, ledger.compared):
                yield f"{row.key}: the comparison with the control differs from the ledger's"

    def make(self, experiment: Experiment) -> None:
        ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
        for row, watch in _watched(experiment, lock=True):
            ledger = watching.of_ledger(experiment, watch, row)
            WatchedMetric.objects.filter(pk=row.pk).update(compared=ledger.compared)
            WatchedValues.objects.filter(watched=row).delete()
            WatchedValues.objects.bulk_create(
                watching.values_row(row, arm, found) for arm, found in ledger.values.items()
            )

    def set_aside(self, experiment: Experiment, start: datetime, end: datetime) -> bool:
        goes_on = unsettled().filter(pk=experiment.pk).exists()
        for row, watch in _watched(experiment, lock=True):
            base = watching.of_ledger(experiment, watch, row, until=end)
            if watch.kind != "failures" and (row.summed_until is None or row.summed_until < end):
                return False
            if watch.kind != "mean" and goes_on and base.compared_until < end:
                return False
            WatchedMetric.objects.filter(pk=row.pk).update(base=base.to_dict())
        return True


class ShadowedSums(Resummed):
    """In ShadowStatistics."""

    def differences(self, experiment: Experiment) -> Iterator[str]:
        for row in ShadowStatistics.objects.filter(arm__experiment=experiment).select_related("arm").order_by("arm_id"):
            ledger = shadow_sums.of_ledger(experiment, row).to_dict()
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


def _watched(experiment: Experiment, *, lock: bool = False) -> list[tuple[WatchedMetric, Watch]]:
    watches = watches_of(experiment)
    rows = WatchedMetric.objects.filter(experiment=experiment, key__in=watches).order_by("pk")
    return [(row, watches[row.key]) for row in (rows.select_for_update() if lock else rows)]
