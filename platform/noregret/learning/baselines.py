"""What champions do while no experiment runs, from the ledger into sums by the hour.

Decisions are counted in the transaction that writes them, rewards in the one that claims them; both
under the lock of the baseline's row. Nothing is decided here. What the sums say is in
noregret.learning.baseline_figures.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from noregret.experiments.baselines import UNDECLARED, reward_of
from noregret.experiments.models import Baseline
from serving.ledger import horizon, latency

from . import clock, quarantine
from .claiming import BATCH, claim
from .comparing import close, rounding
from .models import BaselineInterval
from .totals import RewardMoments

HOURS_KEPT = timedelta(days=35)
"""So long a baseline's hours stand each for itself; older ones are merged into one."""


@dataclass(frozen=True, slots=True)
class BaselineDecision:
    """What of a recorded decision of a single deployment is counted."""

    decided_at: datetime
    latency_ms: float | None  # None: no call was made here
    failed: bool
    cached: bool
    """Answered by what was kept of an earlier call."""


@dataclass(slots=True)
class HourSums:
    """Sums over the decisions of an hour; they add."""

    decisions: int = 0
    failures: int = 0
    latencies: Sequence[int] = ()
    rewards: RewardMoments = field(default_factory=RewardMoments)
    cached: int = 0

    def __add__(self, other: "HourSums") -> "HourSums":
        return HourSums(
            self.decisions + other.decisions,
            self.failures + other.failures,
            latency.add(self.latencies, other.latencies),
            self.rewards.merged(other.rewards),
            self.cached + other.cached,
        )


def hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def sums_of(row: BaselineInterval) -> HourSums:
    moments = RewardMoments(row.rewards, row.reward_total, row.reward_m2)
    return HourSums(row.decisions, row.failures, row.latencies, moments, row.cached)


def count(decisions: Mapping[int, Iterable[BaselineDecision]]) -> None:
    """Add new decisions, by the number of their baseline; in the transaction that wrote them.

    Numbers that are no baseline's are passed over.
    """
    if not decisions:
        return
    for baseline in Baseline.objects.select_for_update().filter(pk__in=decisions).order_by("pk"):
        _add(baseline.pk, _by_hour(decisions[baseline.pk]))


def _by_hour(decisions: Iterable[BaselineDecision]) -> dict[datetime, HourSums]:
    hours: dict[datetime, list[BaselineDecision]] = {}
    for decision in decisions:
        hours.setdefault(hour_of(decision.decided_at), []).append(decision)
    return {
        hour: HourSums(
            len(those),
            sum(one.failed for one in those),
            latency.count(one.latency_ms for one in those if one.latency_ms is not None),
            cached=sum(one.cached for one in those),
        )
        for hour, those in hours.items()
    }


def _add(baseline_id: int, sums: Mapping[datetime, HourSums]) -> None:
    """Add to a baseline's hours, under its lock."""
    rows = BaselineInterval.objects.filter(baseline=baseline_id, merged=False, start__in=sums)
    current = {row.start: sums_of(row) for row in rows}
    _write(baseline_id, {hour: current.get(hour, HourSums()) + more for hour, more in sums.items()})


def _write(baseline_id: int, sums: Mapping[datetime, HourSums], *, merged: bool = False) -> None:
    BaselineInterval.objects.bulk_create(
        [
            BaselineInterval(
                baseline_id=baseline_id,
                start=hour,
                merged=merged,
                decisions=total.decisions,
                failures=total.failures,
                cached=total.cached,
                latencies=list(total.latencies),
                rewards=total.rewards.rewards,
                reward_total=total.rewards.total,
                reward_m2=total.rewards.m2,
            )
            for hour, total in sums.items()
        ],
        update_conflicts=True,
        unique_fields=["baseline", "merged", "start"],
        update_fields=["decisions", "failures", "cached", "latencies", "rewards", "reward_total", "reward_m2"],
    )


# Of all that has rewards to fold, one number after another out of the index `reward_to_fold`: few
# have, of however many there are. From the beginning of a day, so that nothing of the index before
# it is read.
_TO_FOLD = """
WITH RECURSIVE waiting AS (
    SELECT min(experiment_id) AS id FROM serving_reward WHERE NOT folded AND NOT late AND decided_at >= %(since)s
    UNION ALL
    SELECT (
        SELECT min(experiment_id) FROM serving_reward
        WHERE NOT folded AND NOT late AND decided_at >= %(since)s AND experiment_id > waiting.id
    ) FROM waiting WHERE waiting.id IS NOT NULL
)
SELECT id FROM waiting WHERE id IS NOT NULL
"""
# A baseline at a time, by the same index, and of few days: feedback comes within its window. The
# days are named, not computed, so that the others are not even planned for.
_WAITING = """
SELECT b.endpoint_id, extract(epoch FROM clock_timestamp() - waiting.recorded_at)::float8
FROM unnest(%(baselines)s::bigint[], %(endpoints)s::bigint[]) AS b (id, endpoint_id) CROSS JOIN LATERAL (
    SELECT min(r.recorded_at) AS recorded_at FROM serving_reward AS r
    WHERE r.experiment_id = b.id AND NOT r.folded AND NOT r.late AND r.decided_at >= %(since)s
) AS waiting
WHERE waiting.recorded_at IS NOT NULL
"""
_BEHIND = timedelta(days=2)


def waiting() -> dict[int, float]:
    """For each endpoint with rewards of baselines that are not folded, how many seconds the oldest
    has waited. Asked each second: no row is read of an endpoint for which nothing waits."""
    now = clock.now()
    windows = _that_get_rewards().order_by().values_list("reward__window_seconds", flat=True).distinct()
    longest = max(map(_window, windows), default=None)
    if longest is None:
        return {}
    since = (now - _BEHIND - timedelta(seconds=longest)).astimezone(UTC)
    with connection.cursor() as cursor:
        cursor.execute(_TO_FOLD, {"since": since.replace(hour=0, minute=0, second=0, microsecond=0)})
        to_fold = [row[0] for row in cursor.fetchall()]
    if not to_fold:
        return {}
    by_window: dict[float, tuple[list[int], list[int]]] = {}
    rows = _that_get_rewards().filter(pk__in=to_fold).values_list("pk", "endpoint", "reward__window_seconds")
    for baseline, endpoint, window in rows:
        baselines, endpoints = by_window.setdefault(_window(window), ([], []))
        baselines.append(baseline)
        endpoints.append(endpoint)
    waited: dict[int, float] = {}
    for seconds_open, (baselines, endpoints) in by_window.items():
        asked: dict[str, list[int] | datetime] = {
            "baselines": baselines,
            "endpoints": endpoints,
            "since": now - _BEHIND - timedelta(seconds=seconds_open),
        }
        with connection.cursor() as cursor:
            cursor.execute(_WAITING, asked)
            for endpoint_id, seconds in cursor.fetchall():
                waited[endpoint_id] = max(seconds, waited.get(endpoint_id, 0.0))
    return waited


def _window(stored: Any) -> float:
    """The seconds of a row's window, from its reward; of none, what is taken for it."""
    return float(stored or UNDECLARED.window_seconds)


def fold(endpoint_id: int) -> int:
    """Fold what waits for the baselines of an endpoint; how many rewards. Called under its
    lease."""
    rows = _that_get_rewards().filter(endpoint=endpoint_id)
    now = clock.now()
    return sum(_fold(row, now - _BEHIND - timedelta(seconds=reward_of(row).window_seconds)) for row in rows)


def fold_leftovers() -> int:
    """Fold what a learner that was away for days has left; how many rewards. Called now and
    then."""
    return sum(_fold(row, row.begun_at) for row in _that_get_rewards())


def _that_get_rewards() -> "QuerySet[Baseline]":
    """Ended ones too, until every window is over."""
    recent = Q(ended_at__isnull=True) | Q(ended_at__gt=clock.now() - timedelta(days=92))
    return Baseline.objects.filter(recent).select_related("endpoint").order_by("pk")


def _fold(baseline: Baseline, since: datetime) -> int:
    reward = reward_of(baseline)
    since = max(since, baseline.begun_at - timedelta(days=1))
    total = 0
    while True:
        with transaction.atomic():
            rows = claim(baseline.pk, reward.metric, since)
            if rows:
                Baseline.objects.select_for_update().get(pk=baseline.pk)
                good = quarantine.without_bad_rewards(baseline.pk, name_of(baseline), reward, rows)
                values: dict[datetime, list[float]] = {}
                for row in good:
                    values.setdefault(hour_of(row.decided_at), []).append(row.value)
                _add(baseline.pk, {hour: HourSums(rewards=RewardMoments.of(those)) for hour, those in values.items()})
        total += len(rows)
        if len(rows) < BATCH:
            return total


def windows(numbers: Collection[int]) -> dict[int, float]:
    """The attribution windows, in seconds, of those numbers that are baselines'."""
    rows = Baseline.objects.filter(pk__in=numbers) if numbers else ()
    return {row.pk: reward_of(row).window_seconds for row in rows}


def name_of(baseline: Baseline) -> str:
    """How people are told of it."""
    return f"the baseline {baseline.pk} of {baseline.endpoint.name}"


def merge_old_hours() -> int:
    """Merge hours that are long over into one interval a baseline; how many rows that took away."""
    before = hour_of(clock.now() - HOURS_KEPT)
    old = BaselineInterval.objects.filter(merged=False, start__lt=before)
    count = 0
    for pk in sorted(set(old.values_list("baseline", flat=True))):
        with transaction.atomic():
            Baseline.objects.select_for_update().get(pk=pk)
            rows = list(BaselineInterval.objects.filter(baseline=pk, merged=False, start__lt=before))
            former = BaselineInterval.objects.filter(baseline=pk, merged=True).first()
            total = sum((sums_of(row) for row in rows), HourSums() if former is None else sums_of(former))
            BaselineInterval.objects.filter(pk__in=[row.pk for row in (*rows, *filter(None, [former]))]).delete()
            _write(pk, {before: total}, merged=True)
        count += len(rows)
    return count


_LEDGER_DECISIONS = """
SELECT date_bin('1 hour', decided_at, 'epoch'), CASE WHEN edge_decided_at IS NULL AND NOT cached THEN latency_ms END,
    fallback_reason IS NOT NULL, cached
FROM serving_decision
WHERE experiment_id = %(baseline)s AND decided_at >= %(since)s
"""
_LEDGER_REWARDS = """
SELECT date_bin('1 hour', decided_at, 'epoch'), count(*), sum(value), var_pop(value) * count(*) FROM serving_reward
WHERE experiment_id = %(baseline)s AND metric = %(metric)s AND folded AND NOT late AND decided_at >= %(since)s
GROUP BY 1
"""


def rebuild(baseline: Baseline, *, write: bool) -> list[str]:
    """Sum the ledger anew, and tell what differs by hour; with `write` the hours are replaced.

    Hours that were merged, and those of days that the ledger no longer has, stay as they are.
    """
    with transaction.atomic():
        horizon.hold_days()
        Baseline.objects.select_for_update().get(pk=baseline.pk)
        since = _comparable_from(baseline)
        ledger = _from_ledger(baseline, since)
        rows = BaselineInterval.objects.filter(baseline=baseline, merged=False, start__gte=since)
        live = {row.start: sums_of(row) for row in rows}
        differences = [
            f"{hour:%Y-%m-%d %H}:00: {_told(live.get(hour, HourSums()))} where the ledger has {_told(ledger.get(hour, HourSums()))}"
            for hour in sorted(live.keys() | ledger.keys())
            if not _alike(live.get(hour, HourSums()), ledger.get(hour, HourSums()))
        ]
        if write and differences:
            rows.exclude(start__in=ledger).delete()
            _write(baseline.pk, ledger)
    return differences


def _comparable_from(baseline: Baseline) -> datetime:
    merged = BaselineInterval.objects.filter(baseline=baseline, merged=True).first()
    begins = horizon.begins_at()
    starts = [baseline.begun_at - timedelta(days=1)]
    starts += [merged.start] if merged is not None else []
    starts += [begins] if begins is not None else []
    latest = max(starts)
    return latest if latest == hour_of(latest) else hour_of(latest) + timedelta(hours=1)


def _from_ledger(baseline: Baseline, since: datetime) -> dict[datetime, HourSums]:
    asked: dict[str, int | str | datetime] = {
        "baseline": baseline.pk,
        "metric": reward_of(baseline).metric,
        "since": since,
    }
    hours: dict[datetime, HourSums] = {}
    with connection.cursor() as cursor:
        cursor.execute(_LEDGER_DECISIONS, asked)
        while rows := cursor.fetchmany(BATCH):
            for hour, sums in _by_hour(BaselineDecision(*row) for row in rows).items():
                hours[hour] = hours.get(hour, HourSums()) + sums
        cursor.execute(_LEDGER_REWARDS, asked)
        for hour, rewards, total, m2 in cursor.fetchall():
            hours[hour] = hours.get(hour, HourSums()) + HourSums(rewards=RewardMoments(rewards, total, float(m2)))
    return hours


def _alike(left: HourSums, right: HourSums) -> bool:
    exact = (left.decisions, left.failures, left.cached, list(left.latencies), left.rewards.rewards)
    if exact != (right.decisions, right.failures, right.cached, list(right.latencies), right.rewards.rewards):
        return False
    count, total, m2 = left.rewards
    slack = rounding(count, total / count, m2) if count else 0.0
    return close(total, right.rewards.total) and close(m2, right.rewards.m2, slack)


def _told(sums: HourSums) -> str:
    return f"{sums.decisions} decisions, {sums.failures} failures, {sums.rewards.rewards} rewards of {sums.rewards.total:.15g} in all"
