"""What should be done with an experiment, in a word and in a sentence. It decides from evidence alone and does nothing itself."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from django.utils import timezone

from bandits.inference.anytime import more_needed, verdict
from bandits.inference.evidence import Evidence
from noregret.access.models import AuditEntry
from noregret.experiments.models import Arm, ChampionChange, Experiment

from . import canary
from .models import ExperimentEvidence
from .weighing import evidence_of

Action = Literal["continue", "promote", "stop", "rollback"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`evidence` of `needed` is how far the leader is; None where there is no anytime evidence."""

    action: Action
    arm: Arm | None
    reason: str
    leader: Arm | None = None
    evidence: float | None = None
    needed: float | None = None


def _figure(value: float) -> str:
    if value >= 1e6:  # evidence grows exponentially, and a hundred digits say no more
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _rounded(value: float) -> int:
    """To one figure, upwards: a forecast promises no more."""
    size = 10 ** max(len(str(int(value))) - 1, 0)
    return int(-(-value // size) * size)


def recommend(experiment: Experiment, arms: list[Arm]) -> Recommendation:
    """The recommendation for an experiment with these arms, by position."""
    if experiment.status == Experiment.Status.COMPLETED:
        return _ended(experiment)
    if experiment.started_at is None:
        return Recommendation("continue", None, "not started yet")
    if experiment.strategy == Experiment.Strategy.CANARY:
        return _of_canary(experiment, arms)
    if experiment.strategy == Experiment.Strategy.SHADOW:
        return Recommendation(
            "continue", None, "shadows serve nobody: compare them with the champion, and promote by hand"
        )
    if experiment.apprentice:
        return Recommendation(
            "continue", None, "the policy is an apprentice: the champion serves until the policy is activated"
        )
    held = ExperimentEvidence.objects.get(experiment=experiment)
    evidence = evidence_of(experiment, held)
    if evidence is None:
        return Recommendation(
            "continue",
            None,
            "the anytime rule needs a reward with bounds: promote by hand, or give minimum and maximum",
        )
    return _weigh(experiment, arms, evidence)


def _of_canary(experiment: Experiment, arms: list[Arm]) -> Recommendation:
    found = canary.due(experiment, arms)
    actions: dict[canary.Step, Action] = {"promote": "promote", "rollback": "rollback"}
    action = actions.get(found.step, "continue")
    winner = found.arm if action == "promote" else None
    return Recommendation(action, winner, found.reason, found.arm, found.value, found.needed)


def _ended(experiment: Experiment) -> Recommendation:
    ending = AuditEntry.objects.filter(experiment=experiment.name, action=f"experiment.{experiment.outcome}").first()
    by = f" by {ending.actor}" if ending else ""
    why = f": {ending.reason}" if ending and ending.reason else ""
    evidence = ending.details.get("evidence", {}) if ending else {}
    value, needed = evidence.get("value"), evidence.get("needed")
    arm = experiment.promoted_arm
    if arm is not None:
        return Recommendation("promote", arm, f"{arm.name} was promoted{by}{why}", arm, value, needed)
    action: Action = "rollback" if experiment.outcome == Experiment.Outcome.ROLLED_BACK else "stop"
    said = str(experiment.outcome).replace("_", " ")
    return Recommendation(action, None, f"the experiment was {said}{by}{why}", None, value, needed)


def _weigh(experiment: Experiment, arms: list[Arm], evidence: Evidence) -> Recommendation:
    promotion = experiment.promotion or {}
    enabled = np.array([arm.enabled for arm in arms])
    found = verdict(evidence, promotion["alpha"], enabled)
    if found.arm is None:
        return Recommendation("continue", None, "fewer than two arms are enabled")
    leader = arms[found.arm]
    progress = f"evidence {_figure(found.evidence)} of the {_figure(found.needed)} needed"

    def keep_on(reason: str) -> Recommendation:
        return Recommendation("continue", None, reason, leader, found.evidence, found.needed)

    matured = int(evidence.matured.count.sum())
    if not matured:
        window = experiment.reward["window_seconds"]
        return keep_on(f"no decision has matured yet: a decision counts {window:g} s after it was made")
    if found.action == "continue":
        more = more_needed(found.evidence, found.needed, matured)
        forecast = "too early to say how many more rewards it needs"
        if more is not None:
            forecast = f"needs about {_rounded(more):,} more rewards at the present rate"
        return keep_on(f"{leader.name} leads: {progress}; {forecast}")
    hindrance = _hindrance(experiment, arms, evidence, leader if found.action == "promote" else None)
    if found.action == "stop":
        said = f"no arm is better than another by {promotion['indifference']:.1%} of the reward's range or more"
        if hindrance:
            return keep_on(f"{said}, but {hindrance}")
        return Recommendation("stop", None, said, leader, found.evidence, found.needed)
    if hindrance:
        return keep_on(f"{leader.name} leads with {progress}, but {hindrance}")
    others = [arm.name for arm in arms if arm.enabled and arm.pk != leader.pk]
    return Recommendation(
        "promote",
        leader,
        f"{leader.name} beats {', '.join(others)}: {progress}",
        leader,
        found.evidence,
        found.needed,
    )


def _hindrance(experiment: Experiment, arms: list[Arm], evidence: Evidence, winner: Arm | None) -> str:
    """What the rule still asks for though the evidence is enough: of the winner, or of every enabled arm where none wins."""
    promotion = experiment.promotion or {}
    for i, arm in enumerate(arms):
        matured = int(evidence.matured.count[i])
        if (arm == winner if winner else arm.enabled) and matured < promotion["min_rewards"]:
            return f"{arm.name} has {matured} of {promotion['min_rewards']} matured rewards"
    started = experiment.started_at or timezone.now()
    left = promotion["min_seconds"] - (timezone.now() - started).total_seconds()
    if left > 0:
        return f"{left:,.0f} s of the minimum are left"
    cooling = cooling_seconds(experiment) if winner else 0.0
    return f"the endpoint's champion changed lately: {cooling:,.0f} s of cool-down are left" if cooling > 0 else ""


def cooling_seconds(experiment: Experiment) -> float:
    """How long after the endpoint's last change of champion nothing is promoted by itself yet."""
    last = ChampionChange.objects.filter(endpoint_id=experiment.endpoint_id, previous__isnull=False).first()
    if last is None:
        return 0.0
    cooldown: float = (experiment.promotion or {}).get("cooldown_seconds", 0.0)
    return cooldown - (timezone.now() - last.at).total_seconds()
