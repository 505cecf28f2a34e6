"""What an experiment has shown so far: the figures of the results call and of the dashboard. Reads
only."""

from typing import Literal, cast

from django.utils import timezone
from msgspec import Struct

from noregret.experiments.document import Status, Strategy
from noregret.experiments.models import Experiment
from noregret.learning import health
from noregret.learning.evidence import split_of
from noregret.learning.health import LearnerState
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.shares import canary_weight, propensities
from noregret.learning.summing import sums_of
from noregret.learning.waiting import count_of
from noregret.learning.watched import states
from noregret.learning.watched.states import GuardrailState
from serving.times import Time

from . import answers, shadow_comparison
from .apprentice import Apprentice, apprentice
from .coefficients import Coefficients
from .evaluation import Evaluation
from .forecast import Forecast
from .holdout import Holdout, holdout
from .latencies import Latency
from .outcomes import intervals, own_outcomes
from .recommendation import recommend
from .savings import against_even_split
from .segments import Segments
from .shadow_comparison import ShadowComparison
from .standing import standing


class ResultsArm(Struct, frozen=True):
    name: str
    model: str
    enabled: bool
    is_control: bool
    decisions: int
    rewards: int
    mean: float | None
    mean_basis: Literal["served", "assigned"]
    interval: tuple[float, float] | None
    interval_method: Literal["jeffreys", "posterior", "by_unit"] | None
    watched_interval: tuple[float, float] | None
    answered: float | None
    share: float | None
    propensity: float | None
    probability_best: float | None
    expected_loss: float | None
    error_rate: float | None
    latency_ms: Latency
    cached: float | None
    agreement: float | None
    mean_absolute_difference: float | None
    shadow: ShadowComparison | None


class Comparison(Struct, frozen=True):
    """`sample_ratio_p`: did trials fall on the arms as logged? `answers_p`: are arms answered
    alike, where silence means nothing?"""

    sample_ratio_p: float | None
    answers_p: float | None
    saved_against_even_split: float | None
    saved_interval: tuple[float, float] | None


class Activation(Struct, frozen=True):
    """Of decisions that were made with `activate: false`: how many there were, and how many have
    been activated, which alone are in all other figures."""

    decisions: int
    activated: int
    share: float


class EvidenceProgress(Struct, frozen=True):
    leader: str | None
    value: float | None
    needed: float | None
    matured: int


class CanaryState(Struct, frozen=True):
    """The present step, from 1, the challenger's share at it, and since when."""

    step: int
    steps: int
    weight: float
    since: Time


class Recommendation(Struct, frozen=True):
    action: Literal["continue", "promote", "stop", "rollback"]
    arm: str | None
    reason: str


class Results(Struct, frozen=True):
    """What an experiment has shown so far. What can't be known yet is null. `beside`: decisions of
    devices that are kept and are in no other figure."""

    experiment: str
    strategy: Strategy
    status: Status
    as_of: Time
    policy_version: int
    decisions: int
    rewards: int
    arms: list[ResultsArm]
    comparison: Comparison
    evidence: EvidenceProgress
    canary: CanaryState | None
    guardrails: list[GuardrailState]
    holdout: Holdout | None
    apprentice: Apprentice | None
    activation: Activation | None
    beside: int
    learner: LearnerState
    recommendation: Recommendation
    segments: Segments | None
    coefficients: Coefficients | None
    evaluation: Evaluation | None
    forecast: Forecast | None


def results(experiment: Experiment) -> Results:
    """The results (docs/api.md), without what is told only where it is asked for. What can't be
    known yet is None."""
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
    return Results(
        experiment=experiment.name,
        strategy=cast("Strategy", experiment.strategy),
        status=cast("Status", experiment.status),
        as_of=timezone.now(),
        policy_version=experiment.endpoint.policy_version,
        decisions=decisions,
        rewards=sum(row.rewards for row in rows.values()),
        arms=[
            ResultsArm(
                name=arm.name,
                model=arm.model.model,
                enabled=arm.enabled,
                is_control=arm.is_control,
                decisions=rows[arm.pk].decisions,
                rewards=rows[arm.pk].rewards,
                mean=float(outcomes.mean[i]) if outcomes.count[i] else None,
                mean_basis="served" if experiment.strategy == Experiment.Strategy.BANDIT else "assigned",
                interval=ends[i][0],
                interval_method=ends[i][2],
                watched_interval=ends[i][1],
                answered=answered.shares[i],
                share=rows[arm.pk].decisions / decisions if decisions else None,
                propensity=shares[i],
                probability_best=stand.best[i],
                expected_loss=stand.loss[i],
                error_rate=rows[arm.pk].failures / rows[arm.pk].decisions if rows[arm.pk].decisions else None,
                latency_ms=Latency.of(rows[arm.pk].latencies),
                cached=rows[arm.pk].cached / rows[arm.pk].decisions if rows[arm.pk].decisions else None,
                agreement=None if (shadow := shadowed.get(arm.pk)) is None else shadow.agreement,
                mean_absolute_difference=None if shadow is None else shadow.mean_absolute_difference,
                shadow=shadow,
            )
            for i, arm in enumerate(arms)
        ],
        comparison=Comparison(
            sample_ratio_p=split_of(experiment, held).p,
            answers_p=answered.p,
            saved_against_even_split=None if saved is None else saved.value,
            saved_interval=None if saved is None else (saved.low, saved.high),
        ),
        evidence=EvidenceProgress(
            leader=None if found.leader is None else found.leader.name,
            value=found.evidence,
            needed=found.needed,
            matured=held.matured,
        ),
        canary=_canary(experiment),
        guardrails=states.states(experiment, arms),
        holdout=holdout(experiment, sums),
        apprentice=apprentice(experiment, arms, sums),
        activation=_activation(experiment),
        beside=held.beside,
        learner=health.of_experiment(experiment),
        recommendation=Recommendation(
            action=found.action, arm=None if found.arm is None else found.arm.name, reason=found.reason
        ),
        segments=None,
        coefficients=None,
        evaluation=None,
        forecast=None,
    )


def _activation(experiment: Experiment) -> Activation | None:
    counted = count_of(experiment.pk)
    if counted is None:
        return None
    return Activation(counted.waited, counted.activated, counted.activated / max(counted.waited, 1))


def _canary(experiment: Experiment) -> CanaryState | None:
    if experiment.canary_step is None or experiment.canary_since is None:
        return None
    return CanaryState(
        step=experiment.canary_step + 1,
        steps=0 if experiment.canary_ is None else len(experiment.canary_.steps),
        weight=canary_weight(experiment),
        since=experiment.canary_since,
    )
