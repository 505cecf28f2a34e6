"""What an experiment has shown so far: the figures of the results call and of the dashboard. Reads only."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from django.db import connection
from django.utils import timezone

from bandits.belief import believe
from bandits.inference.best_arm import expected_loss, probability_best
from bandits.inference.sample_ratio import sample_ratio_p
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.publish import canary_weight, propensities
from noregret.experiments.rewards import reward_model
from serving.ledger import latency

from . import contextual, shadows
from .holdout import holdout
from .models import ArmStatistics, ExperimentEvidence
from .outcomes import intervals, own_outcomes
from .recommendation import recommend
from .savings import against_even_split


def results(experiment: Experiment) -> dict[str, Any]:
    """The results document (docs/api.md). What can't be known yet is None."""
    arms = list(experiment.arms.select_related("model").order_by("position"))
    rows = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    outcomes = own_outcomes(experiment, arms)
    belief = believe(outcomes, reward_model(experiment))
    # Arms of a contextual policy served different requests: their means can't be compared, and neither arm is "best".
    seen = bool(outcomes.count.sum()) and contextual.policy_of(experiment) is None
    best = probability_best(belief.posterior) if seen else None
    loss = belief.in_reward_units(expected_loss(belief.posterior)) if seen else None
    shares = propensities(experiment, arms)
    ends = intervals(experiment, arms, outcomes)
    saved = against_even_split(experiment, arms, outcomes)
    decisions = sum(row.decisions for row in rows.values())
    found = recommend(experiment, arms)
    mirrored = experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice
    shadowed = shadows.comparison(experiment) if mirrored else {}
    return {
        "experiment": experiment.name,
        "status": experiment.status,
        "as_of": timezone.now().isoformat().replace("+00:00", "Z"),
        "policy_version": experiment.endpoint.policy_version,
        "decisions": decisions,
        "rewards": sum(row.rewards for row in rows.values()),
        "arms": [
            {
                "name": arm.name,
                "model": arm.model.model,
                "enabled": arm.enabled,
                "is_control": arm.is_control,
                "decisions": rows[arm.pk].decisions,
                "rewards": rows[arm.pk].rewards,
                "mean": float(outcomes.mean[i]) if outcomes.count[i] else None,
                "mean_basis": "served" if experiment.strategy == Experiment.Strategy.BANDIT else "assigned",
                "interval": ends[i][0],
                "interval_method": ends[i][2],
                "watched_interval": ends[i][1],
                "share": rows[arm.pk].decisions / decisions if decisions else None,
                "propensity": shares[i],
                "probability_best": None if best is None else float(best[i]),
                "expected_loss": None if loss is None else float(np.ravel(loss)[i]),
                "error_rate": rows[arm.pk].failures / rows[arm.pk].decisions if rows[arm.pk].decisions else None,
                "latency_ms": {
                    "p50": latency.quantile(rows[arm.pk].latencies, 0.5),
                    "p99": latency.quantile(rows[arm.pk].latencies, 0.99),
                },
                "agreement": shadowed.get(arm.pk, {}).get("agreement"),
                "mean_absolute_difference": shadowed.get(arm.pk, {}).get("mean_absolute_difference"),
                "shadow": shadowed.get(arm.pk),
            }
            for i, arm in enumerate(arms)
        ],
        "comparison": {
            "sample_ratio_p": _sample_ratio_p(experiment, arms, rows),
            "saved_against_even_split": None if saved is None else saved.value,
            "saved_interval": None if saved is None else [saved.low, saved.high],
        },
        "evidence": {
            "leader": None if found.leader is None else found.leader.name,
            "value": found.evidence,
            "needed": found.needed,
            "matured": ExperimentEvidence.objects.get(experiment=experiment).matured,
        },
        "canary": _canary(experiment),
        "holdout": holdout(experiment),
        "apprentice": _apprentice(experiment, arms),
        "recommendation": {
            "action": found.action,
            "arm": None if found.arm is None else found.arm.name,
            "reason": found.reason,
        },
    }


# More decisions than this are not counted by unit while somebody waits for the answer.
MOST_BY_UNIT = 1_000_000
_FIRST_OF_UNITS = """
WITH firsts AS (
    SELECT DISTINCT ON (unit) arm_id, propensities FROM serving_decision
    WHERE experiment_id = %(experiment)s AND unit IS NOT NULL ORDER BY unit, decided_at, id
), counted AS (
    SELECT arm_id, propensities FROM firsts
    UNION ALL SELECT arm_id, propensities FROM serving_decision WHERE experiment_id = %(experiment)s AND unit IS NULL
)
SELECT arm_id, NULL::bigint AS seat, count(*)::float8 FROM counted GROUP BY arm_id
UNION ALL SELECT NULL, seat - 1, sum(share) FROM counted, unnest(propensities) WITH ORDINALITY AS u (share, seat) GROUP BY seat
"""


def _sample_ratio_p(experiment: Experiment, arms: list[Arm], rows: dict[int, ArmStatistics]) -> float | None:
    """Did the split go as logged? A unit that keeps its arm is one trial, however often it comes."""
    counts = [float(rows[arm.pk].decisions) for arm in arms]
    expected = [rows[arm.pk].expected_decisions for arm in arms]
    if experiment.strategy in (Experiment.Strategy.AB, Experiment.Strategy.CANARY) or experiment.sticky:
        if sum(counts) > MOST_BY_UNIT:
            return None
        with connection.cursor() as cursor:
            cursor.execute(_FIRST_OF_UNITS, {"experiment": experiment.pk})
            found = cursor.fetchall()
        by_arm = {arm: count for arm, _, count in found if arm is not None}
        by_seat = {seat: share for arm, seat, share in found if arm is None}
        counts = [by_arm.get(arm.pk, 0.0) for arm in arms]
        expected = [by_seat.get(i, 0.0) for i in range(len(arms))]
    return sample_ratio_p(counts, expected)


def _canary(experiment: Experiment) -> dict[str, Any] | None:
    """A canary's step, from 1, its weight and since when."""
    if experiment.canary_step is None or experiment.canary_since is None:
        return None
    return {
        "step": experiment.canary_step + 1,
        "steps": len((experiment.canary or {})["steps"]),
        "weight": canary_weight(experiment),
        "since": experiment.canary_since.isoformat().replace("+00:00", "Z"),
    }


def _apprentice(experiment: Experiment, arms: list[Arm]) -> dict[str, Any] | None:
    """How often an apprentice would have served each arm; None where there is none."""
    if not experiment.apprentice:
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proposed_arm_id, count(*)::float8 FROM serving_decision "
            "WHERE experiment_id = %s AND proposed_arm_id IS NOT NULL GROUP BY proposed_arm_id",
            [experiment.pk],
        )
        counts: dict[int, float] = dict(cursor.fetchall())
    total = sum(counts.values())
    shares = {arm.name: counts.get(arm.pk, 0.0) / total if total else None for arm in arms}
    return {"decisions": int(total), "shares": shares, "outcomes": shadows.score_of_choices(experiment)}


_OVER_TIME = """
SELECT arm_id, date_bin(make_interval(secs => %(width)s), start, %(origin)s) AS at,
    sum(decisions)::float8, sum(rewards)::float8, sum(reward_total)
FROM learning_arminterval WHERE arm_id = ANY(%(arms)s) GROUP BY arm_id, at ORDER BY at
"""


def over_time(experiment: Experiment, points: int = 60) -> dict[str, Any]:
    """Share of decisions and mean reward by arm, over at most about `points` equal stretches of time.

    {"at": [ISO time], "seconds": width, "arms": [{"name", "share": [...], "mean": [...]}]}; None where there is no datum.
    """
    arms = list(experiment.arms.order_by("position"))
    if experiment.started_at is None:
        return {"at": [], "seconds": 0, "arms": [{"name": arm.name, "share": [], "mean": []} for arm in arms]}
    span = ((experiment.ended_at or timezone.now()) - experiment.started_at).total_seconds()
    width = max(10, int(-(-span // (10 * points)) * 10))
    with connection.cursor() as cursor:
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
            {
                "name": arm.name,
                "share": [row[0] / totals[at] if totals[at] else None for at, row in zip(times, here, strict=True)],
                "mean": [row[2] / row[1] if row[1] else None for row in here],
            }
        )
    return {"at": [at.isoformat() for at in times], "seconds": width, "arms": series}


def posterior_densities(experiment: Experiment, points: int = 200) -> dict[str, Any]:
    """Each arm's posterior density of its mean, on one grid in reward units: {"x": [...], "arms": [{"name", "density"}]}.

    Empty where nothing was seen, and for a contextual policy, whose arms' means are of different requests.
    """
    arms = list(experiment.arms.order_by("position"))
    outcomes = own_outcomes(experiment, arms)
    belief = believe(outcomes, reward_model(experiment))
    if not outcomes.count.sum() or contextual.policy_of(experiment) is not None:
        return {"x": [], "arms": [{"name": arm.name, "density": []} for arm in arms]}
    low, high = (np.ravel(end) for end in belief.interval(1e-4))
    x = np.linspace(float(low.min()), float(high.max()), points)
    scale = np.ravel(np.asarray(belief.scale, dtype=np.float64))[0]
    shift = np.ravel(np.asarray(belief.shift, dtype=np.float64))[0]
    density = belief.posterior.pdf(((x - shift) / scale)[:, None]) / abs(scale)
    return {
        "x": x.tolist(),
        "arms": [{"name": arm.name, "density": density[:, i].tolist()} for i, arm in enumerate(arms)],
    }
