"""Series for the charts of an experiment's page, from sums by stretch of time. Reads only."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.utils import timezone
from msgspec import Struct

from bandits.inference.intervals import interval
from bandits.statistics import ArmStatistics as Statistics
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.rewards import reward_model
from noregret.learning.evidence import keeps_units
from noregret.rest.replica import where_read

from .outcomes import INTERVAL_ALPHA, closed_until

_ORIGIN = datetime(2020, 1, 1, tzinfo=UTC)
_WIDTHS = (10, 30, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 7 * 86_400, 28 * 86_400)
"""How long stretches are, in seconds: the first of them with few enough."""


class ArmOverTime(Struct, frozen=True):
    """A number a stretch of time; None where there is no datum: its decisions, its share of all,
    its rewards, their mean and 95 % interval there, and the same of all stretches so far."""

    name: str
    decisions: list[int]
    share: list[float | None]
    rewards: list[int]
    mean: list[float | None]
    band: list[tuple[float, float] | None]
    so_far: list[float | None]
    so_far_band: list[tuple[float, float] | None]


class OverTime(Struct, frozen=True):
    """`at`: when each stretch begins, ISO times; `seconds`: how long each is. `by_unit`: units keep
    their arm, so a stretch's rewards hang together and no band is told."""

    at: list[str]
    seconds: int
    by_unit: bool
    arms: list[ArmOverTime]


# Rewards are taken from their arm's mean: of values around 1e9 squares would leave no digit of
# their spread.
_OVER_TIME = """
SELECT arm_id, date_bin(make_interval(secs => %(width)s), start, %(origin)s) AS at, s.mean,
    sum(i.decisions)::float8, sum(i.rewards)::float8, sum(i.reward_total - i.rewards * s.mean),
    sum(i.reward_m2 + CASE WHEN i.rewards > 0 THEN i.rewards * power(i.reward_total / i.rewards - s.mean, 2) ELSE 0 END)
FROM learning_arminterval AS i JOIN learning_armstatistics AS s USING (arm_id)
WHERE arm_id = ANY(%(arms)s) GROUP BY arm_id, at, s.mean ORDER BY at
"""


def over_time(experiment: Experiment, points: int = 60) -> OverTime:
    """Over at most about `points` equal stretches of time.

    With a default, means are of stretches whose windows are over: before, the rewards that came are
    the good ones alone.
    """
    arms = list(experiment.arms.order_by("position"))
    by_unit = keeps_units(experiment)
    if experiment.started_at is None:
        return OverTime([], 0, by_unit, [ArmOverTime(arm.name, [], [], [], [], [], [], []) for arm in arms])
    span = ((experiment.ended_at or timezone.now()) - experiment.started_at).total_seconds()
    width = next((width for width in _WIDTHS if span <= points * width), _WIDTHS[-1])
    asked: dict[str, Any] = {"width": width, "origin": _ORIGIN, "arms": [arm.pk for arm in arms]}
    with where_read().cursor() as cursor:
        cursor.execute(_OVER_TIME, asked)
        rows = {(row[1], row[0]): row[2:] for row in cursor.fetchall()}
    times = sorted({at for at, _ in rows})
    nothing = (0.0,) * 5
    known = np.array([[rows.get((at, arm.pk), nothing) for arm in arms] for at in times]).reshape(-1, len(arms), 5)
    until = closed_until(experiment)
    over = np.array([until is not None and at + timedelta(seconds=width) <= until for at in times], dtype=bool)
    return OverTime(
        [at.isoformat() for at in times],
        width,
        by_unit,
        [
            _of_arm(experiment, arm, known[:, i], known[:, :, 1].sum(axis=1), over, by_unit)
            for i, arm in enumerate(arms)
        ],
    )


def _of_arm(
    experiment: Experiment, arm: Arm, known: Array, all_decisions: Array, over: Any, by_unit: bool
) -> ArmOverTime:
    """`known` (T, 5): the arm's level, decisions, rewards, and from the level their total and sum
    of squares; `over` (T,): are all windows of the stretch over?"""
    level = next((float(row[0]) for row in known if row[0]), 0.0)
    decisions = known[:, 1]
    moments = known[:, 2:] * over[:, None]
    no_bands: list[tuple[float, float] | None] = [None] * len(known)
    mean, band = _told(experiment, level, moments)
    so_far, so_far_band = _told(experiment, level, moments.cumsum(axis=0))
    shown = [value if here else None for value, here in zip(so_far, over, strict=True)]
    return ArmOverTime(
        arm.name,
        [int(count) for count in decisions],
        [float(own / every) if every else None for own, every in zip(decisions, all_decisions, strict=True)],
        [int(count) for count in known[:, 2]],
        mean,
        no_bands if by_unit else band,
        shown,
        no_bands if by_unit else [ends if here else None for ends, here in zip(so_far_band, over, strict=True)],
    )


def _told(
    experiment: Experiment, level: float, moments: Array
) -> tuple[list[float | None], list[tuple[float, float] | None]]:
    """Means and intervals of (T, 3) counts, and from the level totals and sums of squares."""
    count, total, squares = moments.T
    apart = np.divide(total, count, out=np.zeros(len(count)), where=count > 0)
    mean, m2 = level + apart, np.maximum(squares - count * np.square(apart), 0.0)
    low, high = interval(Statistics(count, mean, m2), reward_model(experiment), INTERVAL_ALPHA)
    seen = [bool(n) for n in count]
    bands = [
        (float(first), float(last)) if some and np.isfinite(first) and np.isfinite(last) else None
        for some, first, last in zip(seen, low, high, strict=True)
    ]
    return [float(value) if some else None for some, value in zip(seen, mean, strict=True)], bands
