"""What a champion has shown while no experiment ran: traffic, failures, latency, and the mean of
its reward. Reads only.

A baseline compares nothing: it says what is there before an experiment, so that one can be planned.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import numpy as np
from django.db import connection
from msgspec import Struct

from bandits.inference.intervals import interval
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.baselines import reward_of
from noregret.experiments.document import Reward
from noregret.experiments.models import Baseline, Endpoint, Experiment
from serving.ledger import latency
from serving.times import Time

from . import clock
from .baselines import HourSums, hour_of, sums_of
from .models import BaselineInterval
from .shown.latencies import Latency
from .totals import RewardMoments

TRAFFIC_OF = timedelta(days=7)
"""Traffic is told of so long before now, or before the baseline's end."""
SHORTEST = timedelta(minutes=1)
"""Of less time no traffic is told."""
_HOUR = timedelta(hours=1)
_GRACE = timedelta(minutes=5)


class BaselineFigures(Struct, frozen=True):
    """A baseline as API, dashboard and `plan` tell it."""

    champion: str
    since: Time
    until: Time | None
    record: float
    """The share of decisions that is recorded."""
    decisions: int
    """Recorded ones."""
    decisions_per_day: float | None
    """All of them, recorded or not; None before a minute has passed without an experiment."""
    error_rate: float | None
    latency_ms: Latency
    """Of decisions that were not answered from the cache."""
    cached: float | None
    """The share of decisions that were."""
    metric: str
    kind: str
    rewards: int
    mean: float | None
    interval: tuple[float, float] | None
    """Of the mean, 95 %."""


def figures(baseline: Baseline) -> BaselineFigures:
    reward = reward_of(baseline)
    now = clock.now()
    rows = list(BaselineInterval.objects.filter(baseline=baseline).order_by("start"))
    total = sum((sums_of(row) for row in rows), HourSums())
    moments = _outcomes(rows, reward, now)
    return BaselineFigures(
        champion=baseline.champion.model,
        since=baseline.begun_at,
        until=baseline.ended_at,
        record=baseline.record,
        decisions=total.decisions,
        decisions_per_day=_traffic(
            baseline,
            {row.start: row.decisions for row in rows if not row.merged},
            _experiments([baseline]).get(baseline.endpoint_id, []),
            now,
        ),
        error_rate=total.failures / total.decisions if total.decisions else None,
        latency_ms=Latency.of(total.latencies),
        cached=total.cached / total.decisions if total.decisions else None,
        metric=reward.metric,
        kind=reward.kind,
        rewards=total.rewards.rewards,
        mean=moments.total / moments.rewards if moments.rewards else None,
        interval=_interval(moments, reward),
    )


def present_figures(endpoint: Endpoint) -> BaselineFigures | None:
    """Those of the champion's open baseline, or of its last one in which something was recorded;
    None where there is none."""
    own = Baseline.objects.filter(endpoint=endpoint, champion=endpoint.champion_id).select_related("champion")
    recorded = (
        BaselineInterval.objects.filter(baseline__in=own).order_by("-baseline").values_list("baseline", flat=True)
    )
    latest = recorded.first()
    chosen = (None if latest is None else own.filter(pk=latest).first()) or own.filter(ended_at__isnull=True).first()
    return None if chosen is None else figures(chosen)


class Glance(Struct, frozen=True):
    """What a list of endpoints tells of each champion."""

    decisions_per_day: float | None
    mean: float | None
    p99_ms: float | None
    """Of the last day in which something was recorded hourly."""


# The mean as `_outcomes` has it: with a default, of decisions whose windows are over.
_MEANS = """
SELECT b.id, sum(i.rewards)::float8, sum(i.reward_total),
    sum(greatest(i.decisions - i.failures - i.rewards, 0))::float8, (b.reward->>'default')::float8
FROM experiments_baseline AS b JOIN learning_baselineinterval AS i ON i.baseline_id = b.id
WHERE b.id = ANY(%(baselines)s) AND (b.reward->>'default' IS NULL OR i.merged OR i.start + interval '1 hour'
    <= %(now)s::timestamptz - interval '5 minutes' - make_interval(secs => (b.reward->>'window_seconds')::float8))
GROUP BY b.id
"""


def glances(endpoints: Iterable[Endpoint]) -> dict[int, Glance]:
    """By endpoint's id, of open baselines. Few queries, however many endpoints there are."""
    now = clock.now()
    begin = hour_of(now - TRAFFIC_OF)
    current = {row.pk: row for row in Baseline.objects.filter(endpoint__in=list(endpoints), ended_at__isnull=True)}
    hours: dict[int, dict[datetime, int]] = {}
    recent = BaselineInterval.objects.filter(baseline__in=current, merged=False, start__gte=begin)
    for pk, start, decisions in recent.values_list("baseline", "start", "decisions"):
        hours.setdefault(pk, {})[start] = decisions
    latencies: dict[int, Sequence[int]] = {}
    last_day = recent.filter(start__gte=hour_of(now - timedelta(days=1)))
    for pk, counts in last_day.values_list("baseline", "latencies"):
        latencies[pk] = latency.add(latencies.get(pk, ()), counts)
    means, experiments = _means(list(current), now), _experiments(current.values())
    return {
        row.endpoint_id: Glance(
            decisions_per_day=_traffic(row, hours.get(pk, {}), experiments.get(row.endpoint_id, []), now),
            mean=means.get(pk),
            p99_ms=latency.quantile(latencies.get(pk, ()), 0.99),
        )
        for pk, row in current.items()
    }


def _means(baselines: list[int], now: datetime) -> dict[int, float]:
    means: dict[int, float] = {}
    with connection.cursor() as cursor:
        cursor.execute(_MEANS, {"baselines": baselines, "now": now})
        for pk, rewards, total, silent, default in cursor.fetchall():
            count = rewards if default is None else rewards + silent
            if count:
                means[pk] = (total if default is None else total + silent * default) / count
    return means


def _outcomes(rows: list[BaselineInterval], reward: Reward, now: datetime) -> RewardMoments:
    """Rewards; where silence has a meaning, of decisions whose windows are over, with the default
    of those who were silent."""
    if reward.default is None:
        return sum_of([sums_of(row).rewards for row in rows])
    over = now - timedelta(seconds=reward.window_seconds) - _GRACE
    parts: list[RewardMoments] = []
    for row in rows:
        if not row.merged and row.start + _HOUR > over:
            continue
        silent = max(row.decisions - row.failures - row.rewards, 0)
        parts += [sums_of(row).rewards, RewardMoments(silent, silent * reward.default, 0.0)]
    return sum_of(parts)


def sum_of(parts: list[RewardMoments]) -> RewardMoments:
    total = RewardMoments()
    for part in parts:
        total = total.merged(part)
    return total


def _interval(moments: RewardMoments, reward: Reward) -> tuple[float, float] | None:
    if not moments.rewards:
        return None
    model = RewardModel(reward.kind, reward.direction, reward.minimum, reward.maximum)
    mean = moments.total / moments.rewards
    statistics = Statistics(np.array([float(moments.rewards)]), np.array([mean]), np.array([moments.m2]))
    low, high = interval(statistics, model)
    ends = float(np.ravel(low)[0]), float(np.ravel(high)[0])
    return ends if np.isfinite(ends).all() else None


Span = tuple[datetime, datetime | None]
"""From when, and until when; None: it goes on."""


def _traffic(
    baseline: Baseline, decisions: dict[datetime, int], experiments: list[Span], now: datetime
) -> float | None:
    """Decisions a day, recorded or not, in the hours in which no experiment was under way."""
    end = min(baseline.ended_at or now, now)
    begin = max(baseline.begun_at, end - TRAFFIC_OF)
    if baseline.record <= 0.0:
        return None
    seconds, recorded = 0.0, 0
    hour = hour_of(begin)
    while hour < end:
        if not any(started < hour + _HOUR and (over is None or over > hour) for started, over in experiments):
            seconds += (min(hour + _HOUR, end) - max(hour, begin)).total_seconds()
            recorded += decisions.get(hour, 0)
        hour += _HOUR
    if seconds < SHORTEST.total_seconds():
        return None
    return recorded / baseline.record / seconds * timedelta(days=1).total_seconds()


def _experiments(baselines: Iterable[Baseline]) -> dict[int, list[Span]]:
    """By endpoint's id, when experiments were under way since these baselines began, paused ones
    too: what was recorded then is not all of the traffic."""
    begun = {baseline.endpoint_id: baseline.begun_at for baseline in baselines}
    spans: dict[int, list[Span]] = {}
    rows = Experiment.objects.filter(endpoint__in=begun, started_at__isnull=False)
    for endpoint, started, over in rows.values_list("endpoint", "started_at", "ended_at"):
        if started is not None and (over is None or over > begun[endpoint]):
            spans.setdefault(endpoint, []).append((started, over))
    return spans
