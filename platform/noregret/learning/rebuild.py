"""Computes what was learned anew, from the ledger alone, and holds it against the live state.

Day by day, as sums that merge: `learn_day` maps, `+` reduces, so a day is a task of its own where there are many. Ledger and live
state are read in one snapshot of the database: every step of learning commits its rows, its marks and its sums together, so
within a snapshot they agree, whoever learns meanwhile. A comparison so needs no lock and stops nobody.

Not computed: until when buckets are closed. That is no sum over the ledger but how far learning has come.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from django.db import connection, transaction

from bandits.inference.evidence import Evidence, differences
from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.publish import publish_endpoint_on_commit
from serving.ledger import latency

from . import contextual, shadow_sums
from .coarsening import Lengths
from .locks import endpoint_lock
from .mature import ROW_COLUMNS, SERVED, delays_of, replay_models
from .models import ArmInterval, ArmStatistics, ExperimentEvidence, ShadowStatistics, WatchedMetric, WatchedValues
from .shadow_sums import ShadowSums
from .totals import CountedDecision, DecisionTotals, RewardIntervals, RewardMoments
from .watches import watches_of
from .watching import of_ledger, of_row, values_row
from .weighing import (
    RULES,
    Row,
    Served,
    answers_are_compared,
    answers_of,
    bounds_of,
    bucket_number,
    bucket_width,
    evidence_of,
    floor_to_bucket,
    no_answers,
    no_evidence,
    replay,
    replay_answers,
    split_of,
)

TOLERANCE = 1e-9
_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Learned:
    """What the ledger says of an experiment's arms: decisions by arm id, rewards by position and by interval."""

    totals: DecisionTotals
    moments: Statistics
    rewards: dict[tuple[int, datetime], RewardMoments]

    def __add__(self, other: "Learned") -> "Learned":
        rewards = dict(self.rewards)
        for key, moments in other.rewards.items():
            rewards[key] = rewards.get(key, RewardMoments()).merged(moments)
        return Learned(self.totals + other.totals, self.moments + other.moments, rewards)


def days_of(experiment: Experiment) -> list[datetime]:
    """The days on which decisions of the experiment lie in the ledger."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(at), max(at) FROM ("
            "SELECT min(decided_at) AS at FROM serving_decision WHERE experiment_id = %(e)s UNION ALL "
            "SELECT max(decided_at) FROM serving_decision WHERE experiment_id = %(e)s UNION ALL "
            "SELECT min(decided_at) FROM serving_reward WHERE experiment_id = %(e)s UNION ALL "
            "SELECT max(decided_at) FROM serving_reward WHERE experiment_id = %(e)s) AS ends",
            {"e": experiment.pk},
        )
        first, last = cursor.fetchone()
    if first is None:
        return []
    start = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [start + timedelta(days=n) for n in range((last - start).days + 1)]


@contextmanager
def _snapshot() -> Iterator[None]:
    """One state of the database for everything that is read inside."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def _rows(query: str, parameters: dict[str, Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in chunks, from a cursor of the server: memory stays bounded. Called inside a transaction."""
    with connection.connection.cursor(name="rebuild", binary=True) as cursor:
        cursor.execute(query, parameters)
        while rows := cursor.fetchmany(_CHUNK):
            yield rows


def learn_day(experiment: Experiment, arm_ids: list[int], day: datetime) -> Learned:
    """The map step: one day of decisions and of folded rewards."""
    position = {arm: i for i, arm in enumerate(arm_ids)}
    parameters = {"e": experiment.pk, "start": day, "end": day + timedelta(days=1)}
    totals = DecisionTotals.of((), arm_ids)
    for rows in _rows(
        "SELECT arm_id, decided_at, propensities, latency_ms, fallback_reason IS NOT NULL, trial FROM serving_decision "
        "WHERE experiment_id = %(e)s AND decided_at >= %(start)s AND decided_at < %(end)s",
        parameters,
    ):
        totals = totals + DecisionTotals.of((CountedDecision(*row) for row in rows if row[0] in position), arm_ids)
    moments = Statistics.zeros(len(arm_ids))
    intervals: dict[tuple[int, datetime], RewardMoments] = {}
    for rows in _rows(
        "SELECT arm_id, decided_at, value FROM serving_reward WHERE experiment_id = %(e)s AND folded AND NOT late "
        "AND metric = %(metric)s AND decided_at >= %(start)s AND decided_at < %(end)s",
        parameters | {"metric": experiment.reward["metric"]},
    ):
        known = [row for row in rows if row[0] in position]
        if known:
            arm = np.array([position[row[0]] for row in known])
            moments = moments + Statistics.from_rewards(arm, np.array([row[2] for row in known]), len(arm_ids))
        chunk = RewardIntervals()
        for row in known:
            chunk.add(*row)
        for key, found in chunk.moments().items():
            intervals[key] = intervals.get(key, RewardMoments()).merged(found)
    return Learned(totals, moments, intervals)


def learn_all(experiment: Experiment, arm_ids: list[int]) -> Learned:
    """Map over the days, and merge."""
    nothing = Learned(DecisionTotals.of((), arm_ids), Statistics.zeros(len(arm_ids)), {})
    return reduce(Learned.__add__, (learn_day(experiment, arm_ids, day) for day in days_of(experiment)), nothing)


_MATURED = """
SELECT {columns}
FROM serving_reward AS r JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
WHERE r.experiment_id = %(e)s AND r.metric = %(metric)s AND r.matured
AND r.decided_at >= %(start)s AND r.decided_at < %(end)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s
ORDER BY d.decided_at
"""


@dataclass(slots=True)
class Replayed:
    """The evidence from the marked rewards, bucket by bucket; how many there were, and when the last of them was decided."""

    evidence: Evidence | None = None
    answers: Evidence | None = None
    learned: dict[str, Any] = field(default_factory=dict)
    delays: dict[int, list[int]] = field(default_factory=dict)
    matured: int = 0
    last: datetime | None = None


def replay_evidence(experiment: Experiment) -> Replayed:
    """One day after the other: here the order matters."""
    replayed = Replayed(
        None if bounds_of(experiment) is None else no_evidence(experiment),
        no_answers(experiment) if answers_are_compared(experiment) else None,
    )
    for rows in _whole_buckets(_marked(experiment), bucket_width(experiment)):
        replayed.matured += len(rows)
        replayed.last = rows[-1].decided_at
        replayed.evidence = replay(experiment, replayed.evidence, rows)
        replayed.learned = replay_models(experiment, replayed.learned, rows)
        for arm, counts in delays_of(experiment, rows).items():
            replayed.delays[arm] = latency.add(replayed.delays.get(arm, []), counts)
    if replayed.answers is not None:
        closed = _closed_until(experiment, replayed)
        for served in _whole_buckets(_served(experiment, closed), bucket_width(experiment)):
            replayed.answers = replay_answers(experiment, replayed.answers, served)
    return replayed


def _closed_until(experiment: Experiment, replayed: Replayed) -> datetime | None:
    """Until when buckets are closed. Where that was lost with its row: up to the last marked one, or it would bear no mark."""
    closed = ExperimentEvidence.objects.values_list("closed_until", flat=True).filter(experiment=experiment).first()
    if closed is None and replayed.last is not None:
        width = bucket_width(experiment)
        return floor_to_bucket(replayed.last, width) + width
    return closed


def _marked(experiment: Experiment) -> Iterator[list[Row]]:
    parameters: dict[str, Any] = {
        "e": experiment.pk,
        "metric": experiment.reward["metric"],
        "with_context": contextual.policy_of(experiment) is not None,
    }
    for day in days_of(experiment):
        for rows in _rows(
            _MATURED.format(columns=ROW_COLUMNS), parameters | {"start": day, "end": day + timedelta(days=1)}
        ):
            yield [Row(*row) for row in rows]


def _served(experiment: Experiment, closed: datetime | None) -> Iterator[list[Served]]:
    """Of the buckets that are closed: until then a decision may be answered yet."""
    if closed is None:
        return
    for day in days_of(experiment):
        parameters = {
            "experiment": experiment.pk,
            "metric": experiment.reward["metric"],
            "start": day,
            "end": min(day + timedelta(days=1), closed),
        }
        for rows in _rows(SERVED, parameters):
            yield [Served(*row) for row in rows]


_Decided = TypeVar("_Decided", Row, Served)


def _whole_buckets(chunks: Iterable[list[_Decided]], width: timedelta) -> Iterator[list[_Decided]]:
    """The same rows, cut between buckets: what is learned of one is learned at once."""
    held: list[_Decided] = []
    for chunk in chunks:
        rows = held + chunk
        last = bucket_number(rows[-1].decided_at, width)
        cut = next(i for i, row in enumerate(rows) if bucket_number(row.decided_at, width) == last)
        if cut:
            yield rows[:cut]
        held = rows[cut:]
    if held:
        yield held


def rebuild(experiment: Experiment, *, write: bool) -> list[str]:
    """The differences between ledger and live state, a sentence each; with `write` the live state is then replaced.

    While it writes, nothing is learned for the endpoint.
    """
    if not write:
        with _snapshot():
            return _Rebuilt(experiment).differences()
    with endpoint_lock(experiment.endpoint_id, wait=True):
        return rebuild_held(experiment)


def rebuild_held(experiment: Experiment) -> list[str]:
    """As `rebuild` with `write`, for a caller that holds the endpoint's lock."""
    with _snapshot():
        rebuilt = _Rebuilt(experiment)
        differences = rebuilt.differences()
    # Not in the snapshot's transaction: that would fail on whatever a person changed of the endpoint meanwhile.
    with transaction.atomic():
        rebuilt.write()
        publish_endpoint_on_commit(experiment.endpoint_id)
    return differences


def _close(left: float, right: float, slack: float = 0.0) -> bool:
    return abs(left - right) <= TOLERANCE * max(1.0, abs(left), abs(right)) + slack


def _rounding(count: float, mean: float, m2: float) -> float:
    """What rounding of a mean leaves in a sum of squared deviations from it: much, where rewards are far from 0 and close together."""
    return 16.0 * float(np.finfo(np.float64).eps) * abs(mean) * math.sqrt(count * max(m2, 0.0))


_Interval = tuple[int, int, int, float, float]


class _Rebuilt:
    """What the ledger says of one experiment, beside what is held."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._arms: list[Arm] = list(experiment.arms.order_by("position"))
        self._arm_ids = [arm.pk for arm in self._arms]
        evidence = ExperimentEvidence.objects.filter(experiment=experiment).first()
        self._lengths = Lengths.of(experiment, evidence) if evidence else Lengths({}, None)
        self._learned = learn_all(experiment, self._arm_ids)
        self._replayed = replay_evidence(experiment)
        # As far as each has come: what lies beyond, the learner adds in its rounds.
        watches = watches_of(experiment)
        self._watched = [
            (row, of_ledger(experiment, watches[row.key], row))
            for row in WatchedMetric.objects.filter(experiment=experiment, key__in=watches).order_by("key")
        ]
        shadowed = ShadowStatistics.objects.filter(arm__in=self._arm_ids).order_by("arm_id")
        self._shadowed = [(row, shadow_sums.of_ledger(experiment, row).to_dict()) for row in shadowed]

    def differences(self) -> list[str]:
        return [*self._of_statistics(), *self._of_intervals(), *self._of_evidence(), *self._of_watched()]

    def _statistics(self, i: int) -> dict[str, Any]:
        """The columns of an arm's statistics."""
        totals, moments, arm = self._learned.totals, self._learned.moments, self._arm_ids[i]
        return {
            "decisions": totals.decisions[arm],
            "failures": totals.failures[arm],
            "expected_decisions": totals.expected[arm],
            "rewards": int(moments.count[i]),
            "mean": float(moments.mean[i]),
            "m2": float(moments.m2[i]),
            "latencies": totals.latencies.get(arm, []),
            "delays": self._replayed.delays.get(arm, []),
        }

    def _of_statistics(self) -> Iterator[str]:
        held = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=self._arm_ids)}
        for i, arm in enumerate(self._arms):
            row = held.get(arm.pk)
            if row is None:
                yield f"{arm.name}: has no statistics"
                continue
            slack = _rounding(row.rewards, row.mean, row.m2)
            for column, ledger in self._statistics(i).items():
                live = getattr(row, column)
                near = isinstance(ledger, float) and _close(live, ledger, slack if column == "m2" else 0.0)
                if not (near if isinstance(ledger, float) else live == ledger):
                    yield f"{arm.name}: {column} is {live!r}, the ledger has {ledger!r}"

    def _intervals(self) -> "dict[tuple[int, datetime], _Interval]":
        """(decisions, failures, rewards, sum of rewards, sum of their squared deviations) by arm id and start."""
        totals, rewards = self._learned.totals, self._learned.rewards
        counts, failed = totals.intervals, totals.failed_intervals
        keys = counts.keys() | rewards.keys()
        return self._as_long_as_live(
            (*key, (counts[key], failed[key], *rewards.get(key, RewardMoments()))) for key in keys
        )

    def _as_long_as_live(
        self, intervals: "Iterable[tuple[int, datetime, _Interval]]"
    ) -> "dict[tuple[int, datetime], _Interval]":
        """Of the lengths that the live ones have, or are to have."""
        merged: dict[tuple[int, datetime], _Interval] = {}
        for arm, at, (decisions, failures, count, total, m2) in sorted(intervals):
            key = arm, self._lengths.interval(at)[0]
            before = merged.get(key, (0, 0, 0, 0.0, 0.0))
            rewards = RewardMoments(before[2], before[3], before[4]).merged(RewardMoments(count, total, m2))
            merged[key] = (before[0] + decisions, before[1] + failures, *rewards)
        return merged

    def _of_intervals(self) -> Iterator[str]:
        wanted = self._intervals()
        held = self._as_long_as_live(
            (row.arm_id, row.start, (row.decisions, row.failures, row.rewards, row.reward_total, row.reward_m2))
            for row in ArmInterval.objects.filter(arm_id__in=self._arm_ids)
        )
        names = {arm.pk: arm.name for arm in self._arms}
        for key in sorted(wanted.keys() | held.keys()):
            live, ledger = held.get(key, (0, 0, 0, 0.0, 0.0)), wanted.get(key, (0, 0, 0, 0.0, 0.0))
            slack = _rounding(live[2], live[3] / live[2] if live[2] else 0.0, live[4])
            if live[:3] != ledger[:3] or not (_close(live[3], ledger[3]) and _close(live[4], ledger[4], slack)):
                yield f"{names[key[0]]}: interval from {key[1]:%Y-%m-%d %H:%M:%S} is {live}, the ledger has {ledger}"

    def _of_evidence(self) -> Iterator[str]:
        held = ExperimentEvidence.objects.filter(experiment=self._experiment).first()
        if held is None:
            yield "evidence: there is none"
            return
        ledger = self._replayed
        if held.matured != ledger.matured:
            yield f"evidence: matured is {held.matured}, the ledger has {ledger.matured}"
        if not _same(held.learned, ledger.learned):
            yield "what the policy's models learned differs from the ledger's"
        if not _same(split_of(self._experiment, held).to_dict(), self._learned.totals.split.to_dict()):
            yield "how the split went differs from the ledger's"
        for name, live, wanted in (
            ("evidence", evidence_of(self._experiment, held), ledger.evidence),
            ("rates of answers", answers_of(self._experiment, held), ledger.answers),
        ):
            if wanted is not None and live is not None:
                for part in differences(live, wanted, TOLERANCE):
                    yield f"{name}: {part} differs from the ledger's"

    def _of_watched(self) -> Iterator[str]:
        names = {arm.pk: arm.name for arm in self._arms}
        for row, (sums, compared) in self._watched:
            held = {each.arm_id: of_row(each) for each in WatchedValues.objects.filter(watched=row)}
            for arm in sorted(sums.keys() | held.keys()):
                live, ledger = held.get(arm), sums.get(arm)
                if live is None or ledger is None or not _same(live.to_dict(), ledger.to_dict()):
                    yield f"{names.get(arm, arm)}: the values of {row.key} differ from the ledger's"
            if not _same(row.compared, compared):
                yield f"{row.key}: the comparison with the control differs from the ledger's"

        for shadow, wanted in self._shadowed:
            if not _same(ShadowSums.from_dict(shadow.sums).to_dict(), wanted):
                yield f"{names[shadow.arm_id]}: what its predictions on copies sum up to differs from the ledger's"

    def write(self) -> None:
        """In the caller's transaction."""
        self._write_shadowed()
        for row, (sums, compared) in self._watched:
            WatchedMetric.objects.filter(pk=row.pk).update(
                summed_until=row.summed_until, compared_until=row.compared_until, compared=compared
            )
            WatchedValues.objects.filter(watched=row).delete()
            WatchedValues.objects.bulk_create([values_row(row, arm, found) for arm, found in sums.items()])
        for i, arm in enumerate(self._arms):
            ArmStatistics.objects.update_or_create(arm=arm, defaults=self._statistics(i))
        ArmInterval.objects.filter(arm_id__in=self._arm_ids).delete()
        ArmInterval.objects.bulk_create(
            [
                ArmInterval(
                    arm_id=arm,
                    start=start,
                    seconds=self._lengths.interval(start)[1],
                    decisions=decisions,
                    failures=failures,
                    rewards=rewards,
                    reward_total=total,
                    reward_m2=m2,
                )
                for (arm, start), (decisions, failures, rewards, total, m2) in self._intervals().items()
            ],
            batch_size=5000,
        )
        replayed = self._replayed
        state = {
            "matured": replayed.matured,
            "state": {} if replayed.evidence is None or not replayed.matured else replayed.evidence.to_dict(),
            "answers": {} if replayed.answers is None else replayed.answers.to_dict(),
            "split": self._learned.totals.split.to_dict(),
            "learned": replayed.learned,
            "rules": RULES,
        }
        closed = _closed_until(self._experiment, replayed)
        ExperimentEvidence.objects.update_or_create(
            experiment=self._experiment, defaults=state, create_defaults=state | {"closed_until": closed}
        )

    def _write_shadowed(self) -> None:
        """Predictions are stored without the endpoint's lock: where some came since the snapshot, their sums are made again."""
        seen = {row.pk: row for row, _ in self._shadowed}
        wanted = {row.pk: sums for row, sums in self._shadowed}
        for arm, row in shadow_sums.locked(self._experiment.pk).items():
            before = seen.get(arm)
            if before is None or before.sums != row.sums or before.summed_until != row.summed_until:
                wanted[arm] = shadow_sums.of_ledger(self._experiment, row).to_dict()
            ShadowStatistics.objects.filter(pk=arm).update(sums=wanted[arm])


def _same(live: Any, ledger: Any) -> bool:
    """Are two JSON documents the same, numbers as near as rounding allows?"""
    if isinstance(live, dict) and isinstance(ledger, dict):
        return live.keys() == ledger.keys() and all(_same(live[key], ledger[key]) for key in live)
    if isinstance(live, list) and isinstance(ledger, list):
        return len(live) == len(ledger) and all(map(_same, live, ledger))
    if isinstance(live, int | float) and isinstance(ledger, int | float):
        return _close(float(live), float(ledger))
    return bool(live == ledger)
