"""The sums of an experiment's arms: decisions, failures, latencies and how the split went; and the moments of folded rewards."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandits.inference.sample_ratio import SampleRatio
from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.models import Experiment
from serving.ledger import latency

from . import meanwhile
from .comparing import close, rounding, same
from .evidence import seats_of, split_of
from .kept import Noted, Span, rows
from .models import ArmStatistics, ExperimentEvidence
from .totals import CountedDecision, DecisionTotals

NAME = "arms"

_DECISIONS = """
SELECT arm_id, decided_at, propensities, latency_ms, fallback_reason IS NOT NULL, trial FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s
"""
_REWARDS = """
SELECT arm_id, value FROM serving_reward WHERE experiment_id = %(experiment)s AND folded AND NOT late
AND metric = %(metric)s AND decided_at >= %(start)s AND decided_at < %(end)s
"""


@dataclass(frozen=True, slots=True)
class Sums:
    """By arm id: counts of decisions, failures and latencies by bucket. By position: the split, and the moments of rewards."""

    decisions: Counter[int]
    failures: Counter[int]
    latencies: dict[int, list[int]]
    split: SampleRatio
    moments: Statistics

    @classmethod
    def of(cls, arms: int, totals: DecisionTotals | None = None, moments: Statistics | None = None) -> "Sums":
        totals = totals or DecisionTotals(split=SampleRatio.zeros(arms))
        return cls(
            totals.decisions,
            totals.failures,
            totals.latencies,
            totals.split.with_arms(arms),
            moments or Statistics.zeros(arms),
        )

    def __add__(self, other: "Sums") -> "Sums":
        timed = self.latencies.keys() | other.latencies.keys()
        arms = max(self.moments.arms, other.moments.arms)
        mine, theirs = (part.moments.padded((0, arms - part.moments.arms)) for part in (self, other))
        return Sums(
            self.decisions + other.decisions,
            self.failures + other.failures,
            {arm: latency.add(self.latencies.get(arm, []), other.latencies.get(arm, [])) for arm in timed},
            self.split + other.split,
            mine + theirs,
        )

    def to_document(self) -> dict[str, Any]:
        return {
            **{name: {str(arm): value for arm, value in getattr(self, name).items()} for name in _BY_ARM},
            "split": self.split.to_dict(),
            "moments": self.moments.to_dict(),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Sums":
        decisions, failures, latencies = (
            {int(arm): value for arm, value in document[name].items()} for name in _BY_ARM
        )
        split, moments = SampleRatio.from_dict(document["split"]), Statistics.from_dict(document["moments"])
        return cls(Counter(decisions), Counter(failures), latencies, split, moments)


_BY_ARM = ("decisions", "failures", "latencies")


def note_decisions(held: ExperimentEvidence, totals: DecisionTotals, arms: int) -> None:
    """For a rebuild that computes meanwhile: new decisions of `arms` arms were counted."""
    if held.noted_for is not None:
        meanwhile.note(held, NAME, Sums.of(arms, totals).to_document())


def note_rewards(held: ExperimentEvidence, moments: Statistics) -> None:
    """For a rebuild that computes meanwhile: rewards were folded."""
    if held.noted_for is not None:
        meanwhile.note(held, NAME, Sums.of(moments.arms, None, moments).to_document())


class ArmSums(Noted[Sums]):
    """In ArmStatistics and ExperimentEvidence.split."""

    name = NAME

    def nothing(self, experiment: Experiment) -> Sums:
        return Sums.of(experiment.arms.count())

    def from_document(self, experiment: Experiment, document: Any) -> Sums:
        return Sums.from_document(document) + self.nothing(experiment)

    def to_document(self, state: Sums) -> Any:
        return state.to_document()

    def after(self, experiment: Experiment, state: Sums, span: Span) -> Sums:
        seats = seats_of(experiment)
        asked = {
            "experiment": experiment.pk,
            "metric": experiment.reward["metric"],
            "start": span.start,
            "end": span.end,
        }
        for chunk in rows(_DECISIONS, asked):
            known = (CountedDecision(*row) for row in chunk if row[0] in seats)
            state = state + Sums.of(len(seats), DecisionTotals.of(known, list(seats)))
        for chunk in rows(_REWARDS, asked):
            state = state + Sums.of(len(seats), None, moments_of(chunk, seats))
        return state

    def plus(self, experiment: Experiment, state: Sums, document: Any) -> Sums:
        return state + Sums.from_document(document)

    def differences(self, experiment: Experiment, state: Sums) -> Iterator[str]:
        held = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__experiment=experiment)}
        for i, arm in enumerate(experiment.arms.order_by("position")):
            row = held.get(arm.pk)
            if row is None:
                yield f"{arm.name}: has no statistics"
                continue
            slack = rounding(row.rewards, row.mean, row.m2)
            for column, ledger in _columns(state, i, arm.pk).items():
                live = getattr(row, column)
                near = isinstance(ledger, float) and close(live, ledger, slack if column == "m2" else 0.0)
                if not (near if isinstance(ledger, float) else live == ledger):
                    yield f"{arm.name}: {column} is {live!r}, the ledger has {ledger!r}"
        try:
            evidence = ExperimentEvidence.objects.filter(experiment=experiment).first()
        except ValueError as error:
            yield f"how the split went: {error}"
            return
        if evidence is not None and not same(split_of(experiment, evidence).to_dict(), state.split.to_dict()):
            yield "how the split went differs from the ledger's"

    def write(self, experiment: Experiment, state: Sums) -> None:
        for arm, i in seats_of(experiment).items():
            ArmStatistics.objects.update_or_create(arm_id=arm, defaults=_columns(state, i, arm))
        ExperimentEvidence.objects.filter(experiment=experiment).update(split=state.split.to_dict())


def moments_of(folded: Sequence[tuple[Any, ...]], seats: dict[int, int]) -> Statistics:
    """The moments of rewards (arm id, value)."""
    known = [(seats[arm], value) for arm, value in folded if arm in seats]
    return Statistics.from_rewards(
        np.array([seat for seat, _ in known], dtype=np.int64), np.array([value for _, value in known]), len(seats)
    )


def _columns(state: Sums, i: int, arm: int) -> dict[str, Any]:
    """The columns of an arm's statistics."""
    return {
        "decisions": state.decisions[arm],
        "failures": state.failures[arm],
        "rewards": int(state.moments.count[i]),
        "mean": float(state.moments.mean[i]),
        "m2": float(state.moments.m2[i]),
        "latencies": state.latencies.get(arm, []),
    }
