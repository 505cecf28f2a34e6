"""Series and densities for the charts of an experiment's page. Reads only."""

from datetime import UTC, datetime

import numpy as np
from django.utils import timezone
from msgspec import Struct

from bandits.belief import believe
from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.models import Experiment
from noregret.experiments.policies import made_policy
from noregret.experiments.rewards import reward_model
from noregret.learning import contextual
from noregret.learning.knowledge import known_to_policy
from noregret.rest.replica import where_read

from .standing import memory_of


class ArmOverTime(Struct, frozen=True):
    """Its share of decisions and its mean reward, a number a stretch of time; None where there is
    no datum."""

    name: str
    share: list[float | None]
    mean: list[float | None]


class OverTime(Struct, frozen=True):
    """`at`: when each stretch begins, ISO times; `seconds`: how long each is."""

    at: list[str]
    seconds: int
    arms: list[ArmOverTime]


class ArmDensity(Struct, frozen=True):
    """At each point of the grid."""

    name: str
    density: list[float]


class Densities(Struct, frozen=True):
    """On the grid `x`, in reward units."""

    x: list[float]
    arms: list[ArmDensity]


_OVER_TIME = """
SELECT arm_id, date_bin(make_interval(secs => %(width)s), start, %(origin)s) AS at,
    sum(decisions)::float8, sum(rewards)::float8, sum(reward_total)
FROM learning_arminterval WHERE arm_id = ANY(%(arms)s) GROUP BY arm_id, at ORDER BY at
"""


def over_time(experiment: Experiment, points: int = 60) -> OverTime:
    """Over at most about `points` equal stretches of time."""
    arms = list(experiment.arms.order_by("position"))
    if experiment.started_at is None:
        return OverTime([], 0, [ArmOverTime(arm.name, [], []) for arm in arms])
    span = ((experiment.ended_at or timezone.now()) - experiment.started_at).total_seconds()
    width = max(10, int(-(-span // (10 * points)) * 10))
    with where_read().cursor() as cursor:
        cursor.execute(
            _OVER_TIME,
            {"width": width, "origin": datetime(2020, 1, 1, tzinfo=UTC), "arms": [arm.pk for arm in arms]},
        )
        found = {(row[1], row[0]): row[2:] for row in cursor.fetchall()}
    times = sorted({at for at, _ in found})
    totals = {at: sum(found.get((at, arm.pk), (0.0,))[0] for arm in arms) for at in times}
    series = []
    for arm in arms:
        here = [found.get((at, arm.pk), (0.0, 0.0, 0.0)) for at in times]
        series.append(
            ArmOverTime(
                arm.name,
                share=[row[0] / totals[at] if totals[at] else None for at, row in zip(times, here, strict=True)],
                mean=[row[2] / row[1] if row[1] else None for row in here],
            )
        )
    return OverTime([at.isoformat() for at in times], width, series)


def posterior_densities(experiment: Experiment, points: int = 200) -> Densities:
    """Each arm's posterior density of its mean, on one grid in reward units.

    Empty where nothing was seen, and for a contextual policy, whose arms' means are of different
    requests.
    """
    arms = list(experiment.arms.order_by("position"))
    memory = (
        None if experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice else memory_of(experiment)
    )
    # Of a policy that learns from features nothing is believed of an arm's mean alone, and nothing
    # of arms that serve nobody.
    statistics = (
        Statistics.zeros(len(arms))
        if memory is None
        else known_to_policy(experiment, arms, made_policy(experiment)).remembered
    )
    belief = believe(statistics, reward_model(experiment))
    if not statistics.count.sum() or contextual.policy_of(experiment) is not None:
        return Densities([], [ArmDensity(arm.name, []) for arm in arms])
    low, high = (np.ravel(end) for end in belief.interval(1e-4))
    x = np.linspace(float(low.min()), float(high.max()), points)
    scale = np.ravel(np.asarray(belief.scale, dtype=np.float64))[0]
    shift = np.ravel(np.asarray(belief.shift, dtype=np.float64))[0]
    density = belief.posterior.pdf(((x - shift) / scale)[:, None]) / abs(scale)
    return Densities(x.tolist(), [ArmDensity(arm.name, density[:, i].tolist()) for i, arm in enumerate(arms)])
