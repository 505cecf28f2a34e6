"""Traffic and mean reward of endpoints over the last days, from the sums that are kept: single
deployments and experiments in one line. No row of the ledger is read.

What is not known is a gap, never a zero: hours of which nothing was recorded have no mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection

from noregret.experiments.models import Endpoint, Experiment


class Scale(NamedTuple):
    """How far back a line goes, in pieces of which length, and how people are told of it."""

    span: timedelta
    width: timedelta
    told: str


# The hours of a baseline are no shorter, so of the first hours there are experiments alone.
_MINUTES = Scale(timedelta(hours=4), timedelta(minutes=10), "4 hours")
_HOURS = Scale(timedelta(hours=48), timedelta(hours=2), "48 hours")
_DAYS = Scale(timedelta(days=7), timedelta(hours=6), "7 days")
GRACE = timedelta(minutes=5)
LEAST_ELAPSED = 0.2
"""The piece that is now is drawn when so much of it is over: of less nothing can be said."""


@dataclass(frozen=True, slots=True)
class Series:
    """`traffic` in decisions an hour and `means`, by piece, the oldest first. Of all pieces, from
    `since` on: `decisions` were recorded, which stand for `served`, and `rewards` sum up to
    `reward_total`."""

    told: str
    since: datetime
    metric: str
    traffic: list[float | None]
    means: list[float | None]
    decisions: int
    served: float
    rewards: int
    reward_total: float


def scale_of(age: timedelta, *, experiments: bool) -> Scale:
    """By how old an endpoint is: a line of one point says nothing. `experiments`: had it any? A
    single deployment is known by the hour."""
    if age < timedelta(hours=3) and experiments:
        return _MINUTES
    return _HOURS if age < timedelta(days=2) else _DAYS


# Sums by piece: of a baseline the recorded share is what was seen of all traffic, and a silent
# decision counts its default when its window is over, as baseline_figures has it.
_PIECES = """
WITH wanted AS (
    SELECT * FROM unnest(%(endpoints)s::bigint[], %(begins)s::timestamptz[], %(widths)s::interval[])
        AS w (endpoint, begins, width)
)
SELECT w.endpoint, coalesce(e.reward->>'metric', 'reward'), date_bin(w.width, i.start, w.begins),
    sum(i.decisions)::float8, sum(i.decisions)::bigint, sum(i.rewards)::float8, sum(i.reward_total)
FROM wanted AS w JOIN experiments_experiment AS e ON e.endpoint_id = w.endpoint AND e.started_at IS NOT NULL
    AND (e.ended_at IS NULL OR e.ended_at >= w.begins)
JOIN experiments_arm AS a ON a.experiment_id = e.id
JOIN learning_arminterval AS i ON i.arm_id = a.id AND i.start >= w.begins
GROUP BY 1, 2, 3
UNION ALL
SELECT w.endpoint, coalesce(b.reward->>'metric', 'reward'), date_bin(w.width, i.start, w.begins),
    sum(i.decisions / b.record)::float8, sum(i.decisions)::bigint,
    sum(i.rewards + v.silent)::float8, sum(i.reward_total + v.silent * coalesce((b.reward->>'default')::float8, 0))
FROM wanted AS w JOIN experiments_baseline AS b ON b.endpoint_id = w.endpoint AND b.record > 0
    AND (b.ended_at IS NULL OR b.ended_at >= w.begins)
JOIN learning_baselineinterval AS i ON i.baseline_id = b.id AND NOT i.merged AND i.start >= w.begins
CROSS JOIN LATERAL (SELECT CASE
    WHEN b.reward->>'default' IS NULL THEN 0
    WHEN i.start + interval '1 hour' <= %(now)s - %(grace)s
        - make_interval(secs => (b.reward->>'window_seconds')::float8)
    THEN greatest(i.decisions - i.failures - i.rewards, 0) ELSE 0 END AS silent) AS v
WHERE w.width >= interval '1 hour'
GROUP BY 1, 2, 3
"""


def series_of(endpoints: Sequence[Endpoint], metrics: dict[int, str], now: datetime) -> dict[int, Series]:
    """By endpoint's id. `metrics` are those whose mean is told, by endpoint's id. One query."""
    begun = set(
        Experiment.objects.filter(endpoint__in=[row.pk for row in endpoints], started_at__isnull=False).values_list(
            "endpoint_id", flat=True
        )
    )
    scales = {row.pk: scale_of(now - row.created_at, experiments=row.pk in begun) for row in endpoints}
    # A piece ends with each width, so that what is drawn does not move with each look.
    begins = {pk: _floor(now - scale.span, scale.width) for pk, scale in scales.items()}
    asked: dict[str, Any] = {
        "endpoints": list(scales),
        "begins": [begins[pk] for pk in scales],
        "widths": [scale.width for scale in scales.values()],
        "now": now,
        "grace": GRACE,
    }
    pieces: dict[int, dict[datetime, list[float]]] = {}
    counts: dict[int, list[float]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_PIECES, asked)
        for pk, metric, start, decisions, recorded, rewards, total in cursor.fetchall():
            sums = pieces.setdefault(pk, {}).setdefault(start, [0.0, 0.0, 0.0])
            count = counts.setdefault(pk, [0.0] * 4)
            sums[0] += decisions
            count[0] += recorded
            count[1] += decisions
            if metric == metrics.get(pk, metric):  # of another metric a mean is no continuation
                sums[1] += rewards
                sums[2] += total
                count[2] += rewards
                count[3] += total
    return {
        row.pk: _series(
            scales[row.pk], begins[row.pk], now, pieces.get(row.pk, {}), counts.get(row.pk, [0.0] * 4), metrics.get(row.pk, "reward")
        )
        for row in endpoints
    }  # fmt: skip


def _series(
    scale: Scale, begin: datetime, now: datetime, pieces: dict[datetime, list[float]], counts: list[float], metric: str
) -> Series:
    traffic: list[float | None] = []
    means: list[float | None] = []
    start = begin
    while start < now:
        decisions, rewards, total = pieces.get(start, (0.0, 0.0, 0.0))
        elapsed = min(now - start, scale.width) / scale.width
        if elapsed >= LEAST_ELAPSED:
            traffic.append(decisions / (elapsed * (scale.width / timedelta(hours=1))))
            means.append(total / rewards if rewards else None)
        start += scale.width
    first = next((i for i, value in enumerate(traffic) if value), len(traffic))
    # Before the first decision there was no traffic to tell of.
    traffic[:first] = [None] * first
    decisions, served, rewards, total = counts
    return Series(scale.told, begin, metric, traffic, means, int(decisions), served, int(rewards), total)


def _floor(at: datetime, width: timedelta) -> datetime:
    since = datetime(2000, 1, 1, tzinfo=at.tzinfo)
    return since + (at - since) // width * width


WIDTH, HEIGHT, MARGIN = 160.0, 36.0, 3.0
"""Of a line's picture, in its own units."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line's points as SVG has them: a part for each stretch without a gap, and the last point.
    `said` is the same in words."""

    parts: list[str]
    dot: tuple[float, float]
    said: str


def line(values: Iterable[float | None], said: str, *, from_zero: bool) -> Line | None:
    """None where fewer than two points are known: one is no line."""
    known = list(values)
    numbers = [value for value in known if value is not None]
    if len(numbers) < 2:
        return None
    low, high = (0.0 if from_zero else min(numbers)), max(numbers)
    room, step = high - low, (WIDTH - 2 * MARGIN) / (len(known) - 1)

    def point(i: int, value: float) -> tuple[float, float]:
        height = (value - low) / room if room > 0 else (0.0 if from_zero else 0.5)
        return round(MARGIN + i * step, 1), round(HEIGHT - MARGIN - height * (HEIGHT - 2 * MARGIN), 1)

    parts: list[list[tuple[float, float]]] = [[]]
    for i, value in enumerate(known):
        if value is None:
            parts.append([])
        else:
            parts[-1].append(point(i, value))
    drawn = [part for part in parts if part]
    # A point between two gaps is a dash, or it would not be seen.
    whole = [part if len(part) > 1 else [part[0], (part[0][0] + 1.5, part[0][1])] for part in drawn]
    return Line([" ".join(f"{x},{y}" for x, y in part) for part in whole], drawn[-1][-1], said)
