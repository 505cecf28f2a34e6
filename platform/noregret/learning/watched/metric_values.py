"""What guardrails know of values and of failures at a look: the sums that are kept
(learning.watched.watching), and what is open yet.

Of a comparison with the control the buckets that are not closed are read from the ledger, as many
as the attribution window is long; of failures the intervals of the last minute. What came before is
in the sums, however much it is.
"""

from dataclasses import dataclass
from datetime import timedelta

from bandits.inference import betting
from bandits.inference.betting import Ladder, Wagers
from bandits.inference.strata import FailureStrata, ValueStrata
from noregret.experiments.models import Experiment
from noregret.learning.clock import FOREVER
from noregret.learning.models import ExperimentEvidence, WatchedMetric, WatchedValues

from .comparisons import begun, compare
from .values import ValueSums, of_row
from .watches import Watch

BEHIND = timedelta(minutes=10)
"""Sums that lack more than this are not looked at: the learner is on its way through what was there
before."""


@dataclass(frozen=True, slots=True)
class Values:
    """By arm id; an arm for which nothing came has no entry. `compared` holds what is not the
    control."""

    sums: dict[int, ValueSums]
    compared: dict[int, ValueStrata]

    def wagers(self, watch: Watch, arm: int, sign: float) -> Wagers | None:
        """What the bets have won that the mean of `sign` times the values is more than the limit;
        None where nothing is known of their reach. By the ends that were seen of any arm, where no
        bound is declared.
        """
        own, sides = self.sums[arm], watch.sides
        logs, limit, bound = (
            (own.above, sides.above, sides.minimum) if sign > 0 else (own.below, sides.below, sides.maximum)
        )
        if limit is None:
            return None
        if bound is not None:
            return Wagers(logs)
        lowest, highest = min(v.lowest for v in self.sums.values()), max(v.highest for v in self.sums.values())
        ends = (lowest, highest) if sign > 0 else (-highest, -lowest)
        far = betting.reach(sign * limit, *ends)
        return None if far is None else Ladder(logs).wagers(far)


def counts_of(experiment: Experiment, watch: Watch) -> dict[int, float]:
    """How many values came of each arm, by its id. By sums: whoever looks each second reads no row
    of the ledger, however many there are of another arm."""
    held = WatchedValues.objects.filter(watched__experiment=experiment, watched__key=watch.key, count__gt=0)
    return dict(held.values_list("arm", "count"))


def values_of(experiment: Experiment, watch: Watch) -> Values | None:
    """What is known of a metric; None while what was there before is summed."""
    row = WatchedMetric.objects.filter(experiment=experiment, key=watch.key).first()
    if row is None or row.summed_until != FOREVER:
        return None
    sums = {each.arm_id: of_row(each) for each in WatchedValues.objects.filter(watched=row)}
    compared: dict[int, ValueStrata] = {}
    if watch.kind == "difference":
        if _is_behind(experiment, row, "closed_until"):
            return None
        looked = compare(experiment, watch, row.compared, begun(experiment, row), None, last=True)
        compared = {int(arm): ValueStrata.from_dict(state) for arm, state in looked.items()}
    return Values(sums, compared)


def failures_of(experiment: Experiment, watch: Watch) -> dict[int, FailureStrata] | None:
    """By arm id, each beside the control's; None while what was there before is counted."""
    row = WatchedMetric.objects.filter(experiment=experiment, key=watch.key).first()
    if row is None or _is_behind(experiment, row, "sealed_until"):
        return None
    looked = compare(experiment, watch, row.compared, begun(experiment, row), None, last=True)
    return {int(arm): FailureStrata.from_dict(state) for arm, state in looked.items()}


def _is_behind(experiment: Experiment, row: WatchedMetric, frontier: str) -> bool:
    until = ExperimentEvidence.objects.values_list(frontier, flat=True).get(experiment=experiment)
    return until is not None and until - begun(experiment, row) > BEHIND
