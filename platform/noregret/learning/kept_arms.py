"""The sums of an experiment's arms: decisions, failures, latencies and how the split went; and the
moments of folded rewards."""

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
from .totals import DecisionTotals, probabilities

NAME = "arms"

# The database counts: what comes here does not grow with the ledger, unless propensities differ
# from request to request.
_SPAN = "experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s"
_DECISIONS = f"""
SELECT arm_id, fallback_reason IS NOT NULL,
    CASE WHEN edge_decided_at IS NULL AND NOT cached THEN width_bucket(latency_ms, %(latencies)s::float8[]) END,
    cached, count(*)
FROM serving_decision WHERE {_SPAN} GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - constants
_DRAWN = f"""
SELECT arm_id, propensities, count(*) FROM serving_decision WHERE {_SPAN} AND trial GROUP BY arm_id, propensities
"""  # noqa: S608 - constants
_REWARDS = f"""
SELECT arm_id, count(*), sum(value) / count(*), var_pop(value) * count(*)
FROM serving_reward WHERE {_SPAN} AND metric = %(metric)s AND folded AND NOT late GROUP BY arm_id
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Sums:
    """By arm id: counts of decisions, failures, kept answers and latencies by bucket. By position:
    the split, and the moments of rewards."""

    decisions: Counter[int]
    failures: Counter[int]
    cached: Counter[int]
    latencies: dict[int, list[int]]
    split: SampleRatio
    moments: Statistics

    @classmethod
    def of(cls, arms: int, totals: DecisionTotals | None = None, moments: Statistics | None = None) -> "Sums":
        totals = totals or DecisionTotals(split=SampleRatio.zeros(arms))
        return cls(
            totals.decisions,
            totals.failures,
            totals.cached,
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
            self.cached + other.cached,
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
        # What an earlier version noted has no `cached`: nothing was kept then.
        decisions, failures, cached, latencies = (
            {int(arm): value for arm, value in document.get(name, {}).items()} for name in _BY_ARM
        )
        split, moments = SampleRatio.from_dict(document["split"]), Statistics.from_dict(document["moments"])
        return cls(Counter(decisions), Counter(failures), Counter(cached), latencies, split, moments)


_BY_ARM = ("decisions", "failures", "cached", "latencies")


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
    piece = dict[str, Any]

    def nothing(self, experiment: Experiment) -> Sums:
        return Sums.of(experiment.arms.count())

    def from_document(self, experiment: Experiment, document: Any) -> Sums:
        return Sums.from_document(document) + self.nothing(experiment)

    def to_document(self, state: Sums) -> Any:
        return state.to_document()

    def read(self, experiment: Experiment, span: Span) -> dict[str, Any]:
        seats = seats_of(experiment)
        asked = {
            "experiment": experiment.pk,
            "metric": experiment.reward_.metric,
            "start": span.start,
            "end": span.end,
        }
        totals = DecisionTotals(split=SampleRatio.zeros(len(seats)))
        for chunk in rows(_DECISIONS, asked | {"latencies": latency.STARTS.tolist()}):
            for arm, failed, bucket, cached, count in chunk:
                if arm in seats:
                    totals.decisions[arm] += count
                    totals.failures[arm] += count * failed
                    totals.cached[arm] += count * cached
                    if bucket is not None:
                        totals.latencies[arm] = latency.add(totals.latencies.get(arm, []), [*([0] * bucket), count])
        for chunk in rows(_DRAWN, asked):
            totals.split = _drawn(totals.split, [row for row in chunk if row[0] in seats], seats)
        sums = Sums.of(len(seats), totals)
        for chunk in rows(_REWARDS, asked):
            sums = sums + Sums.of(len(seats), None, _moments([row for row in chunk if row[0] in seats], seats))
        return sums.to_document()

    def joined(self, experiment: Experiment, state: Sums, piece: dict[str, Any]) -> Sums:
        return state + Sums.from_document(piece)

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


def _drawn(split: SampleRatio, rows: Sequence[tuple[Any, ...]], seats: dict[int, int]) -> SampleRatio:
    """`split` after decisions (arm id, propensities, how many)."""
    shares, known = probabilities([row[1] for row in rows], len(seats))
    seat = np.array([seats[row[0]] for row in rows], dtype=np.int64)
    counts = np.array([row[2] for row in rows], dtype=np.float64)
    return split.observe(seat[known], shares[known], counts[known])


def _moments(rows: Sequence[tuple[Any, ...]], seats: dict[int, int]) -> Statistics:
    """Of rewards (arm id, count, mean, sum of squared deviations)."""
    moments = np.zeros((3, len(seats)))
    for arm, *numbers in rows:
        moments[:, seats[arm]] = numbers
    return Statistics(*moments)


def _columns(state: Sums, i: int, arm: int) -> dict[str, Any]:
    """The columns of an arm's statistics."""
    return {
        "decisions": state.decisions[arm],
        "failures": state.failures[arm],
        "cached": state.cached[arm],
        "rewards": int(state.moments.count[i]),
        "mean": float(state.moments.mean[i]),
        "m2": float(state.moments.m2[i]),
        "latencies": state.latencies.get(arm, []),
    }
