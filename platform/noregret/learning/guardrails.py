"""Guardrails: limits on a metric of each arm, and what is done when an arm is shown to pass one.

A limit on a mean is held by evidence that may be looked at each second: an arm within its limit is acted on with probability at most
`alpha`, however long the experiment goes on. An error rate and a latency's quantile are proportions (of failures; of decisions slower
than the limit), and their counts are enough; other metrics are judged by a confidence sequence of their mean.
"""

from dataclasses import dataclass
from typing import Any

import structlog
from django.db import connection, transaction

from bandits.inference.limits import mean_bounds, proportion_evidence
from noregret.access import audit
from noregret.experiments.arms import set_enabled
from noregret.experiments.document import ERROR_RATE, latency_quantile
from noregret.experiments.errors import Conflict
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.experiments.transitions import move
from serving.ledger import latency

from .models import ArmStatistics

log = structlog.get_logger(__name__)

ACTOR = "guardrail"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of an arm: how often it was seen, its mean and its spread; for a proportion the count of what is bad."""

    count: float
    mean: float
    m2: float
    bad: float | None = None


@dataclass(frozen=True, slots=True)
class Breach:
    """An arm that is shown to be past a limit, with the figures that show it."""

    guardrail: dict[str, Any]
    arm: Arm
    reason: str
    figures: dict[str, Any]


_MEANS = """
SELECT arm_id, count(*)::float8, avg(value), coalesce(var_pop(value), 0) * count(*)
FROM serving_reward WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND NOT late GROUP BY arm_id
"""


def breaches(experiment: Experiment, arms: list[Arm]) -> list[Breach]:
    """Every arm that is past a limit of its experiment, in the order of the guardrails."""
    found: list[Breach] = []
    rows = {row.arm_id: row for row in ArmStatistics.objects.filter(arm__in=arms)}
    control = next((arm for arm in arms if arm.is_control), None)
    for guardrail in experiment.guardrails:
        metrics = {arm.pk: _metric(guardrail, rows[arm.pk]) for arm in arms}
        if metrics and next(iter(metrics.values())) is None:
            metrics = _means(experiment, guardrail["metric"], arms)
        for arm in arms:
            # The control is what an arm is rolled back to: only a pause can help against it.
            if not arm.enabled or (arm.is_control and guardrail["action"] != "pause"):
                continue
            judged = _judge(guardrail, arm, metrics[arm.pk], None if control is None else metrics[control.pk])
            if judged is not None:
                found.append(judged)
    return found


def _metric(guardrail: dict[str, Any], row: ArmStatistics) -> Metric | None:
    """What an arm's statistics know of a metric; None for one that feedback brings."""
    n = float(row.decisions)
    quantile = latency_quantile(guardrail["metric"])
    if guardrail["metric"] == ERROR_RATE:
        bad = float(row.failures)
    elif quantile is not None:
        bad = float(latency.over(row.latencies, guardrail["max"]))
    else:
        return None
    mean = bad / n if n else 0.0
    return Metric(n, mean, n * mean * (1.0 - mean), bad)


def _means(experiment: Experiment, metric: str, arms: list[Arm]) -> dict[int, Metric | None]:
    with connection.cursor() as cursor:
        cursor.execute(_MEANS, {"experiment": experiment.pk, "metric": metric})
        held = {row[0]: Metric(row[1], row[2], row[3]) for row in cursor.fetchall()}
    return {arm.pk: held.get(arm.pk, Metric(0.0, 0.0, 0.0)) for arm in arms}


def _judge(guardrail: dict[str, Any], arm: Arm, own: Metric | None, control: Metric | None) -> Breach | None:
    if own is None or own.count < guardrail["min_decisions"]:
        return None
    name, alpha = guardrail["metric"], guardrail["alpha"]
    figures = {"metric": name, "arm": arm.name, "count": own.count, "mean": own.mean, "alpha": alpha}
    if guardrail["versus"] == "control":
        return _judge_difference(guardrail, arm, own, control, figures)
    quantile = latency_quantile(name)
    if own.bad is not None:
        limit = 1.0 - quantile if quantile is not None else guardrail["max"]
        evidence = proportion_evidence(own.bad, own.count, limit)
        if evidence < 1.0 / alpha:
            return None
        said = (
            f"{own.bad:,.0f} of {own.count:,.0f} decisions of {arm.name} took more than {guardrail['max']:g} ms, "
            f"where {limit:.0%} may"
            if quantile is not None
            else f"{arm.name} failed in {own.bad:,.0f} of {own.count:,.0f} decisions, where {limit:.1%} may"
        )
        return Breach(guardrail, arm, said, figures | {"limit": guardrail["max"], "evidence": min(evidence, 1e300)})
    low, high = mean_bounds(own.count, own.mean, own.m2, alpha)
    return _past(guardrail, arm, low, high, figures, f"the mean of {name} for {arm.name}")


def _judge_difference(
    guardrail: dict[str, Any], arm: Arm, own: Metric, control: Metric | None, figures: dict[str, Any]
) -> Breach | None:
    if arm.is_control or control is None or control.count < guardrail["min_decisions"]:
        return None
    # Each side at half of alpha: both intervals hold together.
    low, high = mean_bounds(own.count, own.mean, own.m2, guardrail["alpha"] / 2.0)
    control_low, control_high = mean_bounds(control.count, control.mean, control.m2, guardrail["alpha"] / 2.0)
    figures = figures | {"control_count": control.count, "control_mean": control.mean}
    subject = f"{guardrail['metric']} of {arm.name} against the control's"
    return _past(guardrail, arm, low - control_high, high - control_low, figures, subject)


def _past(
    guardrail: dict[str, Any], arm: Arm, low: float, high: float, figures: dict[str, Any], subject: str
) -> Breach | None:
    if guardrail["max"] is not None and low > guardrail["max"]:
        limit, side, bound = guardrail["max"], "more", low
    elif guardrail["min"] is not None and high < guardrail["min"]:
        limit, side, bound = guardrail["min"], "less", high
    else:
        return None
    said = f"{subject} is shown to be {side} than {limit:g}: at {'least' if side == 'more' else 'most'} {bound:.4g}"
    return Breach(guardrail, arm, said, figures | {"limit": limit, "bound": bound})


def act(experiment: Experiment) -> bool:
    """Do what a guardrail says of the first arm that passed it; True if something was done."""
    if not experiment.guardrails:
        return False
    arms = list(experiment.arms.select_related("model", "experiment").order_by("position"))
    for breach in breaches(experiment, arms):
        try:
            with transaction.atomic():
                endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
                current = Experiment.objects.select_related("endpoint").get(pk=experiment.pk)
                if current.status != Experiment.Status.RUNNING:
                    return False
                _do(current, breach)
                audit.record(
                    actor=ACTOR,
                    action="guardrail.acted",
                    endpoint=endpoint.name,
                    experiment=experiment.name,
                    model=breach.arm.model.model,
                    reason=breach.reason,
                    details={"action": breach.guardrail["action"], **breach.figures},
                )
        except Conflict as conflict:
            log.info("guardrail not acted on", experiment=experiment.name, why=str(conflict))
            continue
        log.warning("guardrail acted", experiment=experiment.name, arm=breach.arm.name, reason=breach.reason)
        return True
    return False


def _do(experiment: Experiment, breach: Breach) -> None:
    action, figures = breach.guardrail["action"], breach.figures
    if action == "disable_arm":
        others = experiment.arms.filter(enabled=True).exclude(pk=breach.arm.pk)
        if others.exists():
            set_enabled(breach.arm, False, actor=ACTOR, reason=breach.reason, details={"figures": figures})
            return
        action = "pause"  # nobody would be left to serve: the champion does
    if action == "pause":
        move(experiment, "pause", actor=ACTOR, reason=breach.reason, evidence=figures)
    else:
        move(experiment, "rollback", actor=ACTOR, reason=breach.reason, evidence=figures)
