"""What an experiment has shown so far: the figures of the results call and of the dashboard. Reads only."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from django.db import connection
from django.utils import timezone

from bandits.belief import believe
from bandits.statistics import ArmStatistics as Statistics
from noregret.experiments.models import Experiment
from noregret.experiments.policies import made_policy
from noregret.experiments.rewards import reward_model
from noregret.learning import contextual, health
from noregret.learning.evidence import split_of
from noregret.learning.knowledge import known_to_policy
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.shares import canary_weight, propensities
from noregret.learning.summing import sums_of
from noregret.learning.watched import guardrails
from serving.ledger import latency
from serving.times import told

from . import answers, shadow_comparison
from .apprentice import apprentice
from .holdout import holdout
from .outcomes import intervals, own_outcomes
from .recommendation import recommend
from .savings import against_even_split
from .standing import memory_of, standing


def results(experiment: Experiment) -> dict[str, Any]:
    """The results document (docs/api.md). What can't be known yet is None."""
    arms = list(experiment.arms.select_related("model").order_by("position"))
    rows = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    stand = standing(experiment, arms, with_loss=True)
    outcomes = own_outcomes(experiment, arms)
    shares = propensities(experiment, arms)
    sums = sums_of(experiment)
    ends = intervals(experiment, arms, outcomes, sums)
    saved = against_even_split(experiment, arms, sums)
    decisions = sum(row.decisions for row in rows.values())
    found = recommend(experiment, arms, stand)
    held = ExperimentEvidence.objects.get(experiment=experiment)
    answered = answers.rates(experiment, held)
    mirrored = experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice
    shadowed = shadow_comparison.comparison(experiment) if mirrored else {}
    return {
        "experiment": experiment.name,
        "strategy": experiment.strategy,
        "status": experiment.status,
        "as_of": told(timezone.now()),
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
                "answered": answered.shares[i],
                "interval": ends[i][0],
                "interval_method": ends[i][2],
                "watched_interval": ends[i][1],
                "share": rows[arm.pk].decisions / decisions if decisions else None,
                "propensity": shares[i],
                "probability_best": stand.best[i],
                "expected_loss": stand.loss[i],
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
            "sample_ratio_p": split_of(experiment, held).p,
            "answers_p": answered.p,
            "saved_against_even_split": None if saved is None else saved.value,
            "saved_interval": None if saved is None else [saved.low, saved.high],
        },
        "evidence": {
            "leader": None if found.leader is None else found.leader.name,
            "value": found.evidence,
            "needed": found.needed,
            "matured": held.matured,
        },
        "canary": _canary(experiment),
        "guardrails": guardrails.states(experiment, arms),
        "holdout": holdout(experiment, sums),
        "apprentice": apprentice(experiment, arms, sums),
        "learner": asdict(health.of_experiment(experiment)),
        "recommendation": {
            "action": found.action,
            "arm": None if found.arm is None else found.arm.name,
            "reason": found.reason,
        },
    }


def _canary(experiment: Experiment) -> dict[str, Any] | None:
    """A canary's step, from 1, its weight and since when."""
    if experiment.canary_step is None or experiment.canary_since is None:
        return None
    return {
        "step": experiment.canary_step + 1,
        "steps": 0 if experiment.canary_ is None else len(experiment.canary_.steps),
        "weight": canary_weight(experiment),
        "since": told(experiment.canary_since),
    }


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
    memory = (
        None if experiment.strategy == Experiment.Strategy.SHADOW or experiment.apprentice else memory_of(experiment)
    )
    # Of a policy that learns from features nothing is believed of an arm's mean alone, and nothing of arms that serve nobody.
    statistics = (
        Statistics.zeros(len(arms))
        if memory is None
        else known_to_policy(experiment, arms, made_policy(experiment)).remembered
    )
    belief = believe(statistics, reward_model(experiment))
    if not statistics.count.sum() or contextual.policy_of(experiment) is not None:
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
