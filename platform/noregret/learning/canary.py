"""What is due of a canary: wait, advance, promote or roll back.

It advances when its step has baked and nothing speaks against it: no guardrail passed, no evidence that the control is better. Before
the step that leaves the control without traffic, and before promotion, an experiment with an `indifference` must have shown that the
challenger is less than that worse. It rolls back as soon as the control is shown to be better.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.utils import timezone

from bandits.inference.evidence import Evidence
from noregret.experiments.models import Arm, Experiment

from .models import ArmStatistics, ExperimentEvidence
from .phrases import evidence_told
from .weighing import evidence_of

Step = Literal["wait", "advance", "promote", "rollback"]


@dataclass(frozen=True, slots=True)
class Due:
    """What is due, in a word and a sentence. `value` of `needed` is the evidence that was asked for, where some was."""

    step: Step
    reason: str
    arm: Arm | None = None
    value: float | None = None
    needed: float | None = None


def due(experiment: Experiment, arms: list[Arm], now: datetime | None = None) -> Due:
    """Of a running canary."""
    challenger = next((arm for arm in arms if not arm.is_control), None)
    control = next((arm for arm in arms if arm.is_control), None)
    canary, at, since = experiment.canary, experiment.canary_step, experiment.canary_since
    if challenger is None or control is None or canary is None or at is None or since is None:
        return Due("wait", "the canary has not begun")
    promotion = experiment.promotion or {}
    needed = 1.0 / promotion["alpha"]
    evidence = evidence_of(experiment, ExperimentEvidence.objects.get(experiment=experiment))
    against = 1.0 if evidence is None else _between(evidence, control, challenger)
    if against >= needed:
        said = f"{control.name} beats {challenger.name}: {evidence_told(against, needed)}"
        return Due("rollback", said, challenger, against, needed)
    steps = canary["steps"]
    place = f"step {at + 1} of {len(steps)}, {steps[at]:.0%} of the traffic"
    if not challenger.enabled:
        return Due("wait", f"{place}; {challenger.name} is disabled")
    left = canary["bake_seconds"] - ((now or timezone.now()) - since).total_seconds()
    if left > 0:
        return Due("wait", f"{place}; it bakes for another {left:,.0f} s", challenger, against, needed)
    served = ArmStatistics.objects.get(arm=challenger).decisions
    if served < promotion["min_rewards"] and at + 1 >= len(steps):
        return Due(
            "wait", f"{place}; {challenger.name} has {served:,} of {promotion['min_rewards']:,} decisions", challenger
        )
    last = at + 1 >= len(steps)
    shown = 1.0
    if promotion["indifference"] > 0 and evidence is not None and (last or steps[at + 1] >= 1.0):
        alike = evidence.noninferiority_e_values()
        better = _between(evidence, challenger, control)
        shown = max(better, 1.0 if alike is None else float(alike[challenger.position, control.position]))
        if shown < needed:
            said = (
                f"{place}; waits to show that {challenger.name} is less than {promotion['indifference']:.1%} worse: "
                f"{evidence_told(shown, needed)}"
            )
            return Due("wait", said, challenger, shown, needed)
    if last:
        return Due(
            "promote", f"{challenger.name} baked at every step, and nothing spoke against it", challenger, shown, needed
        )
    return Due("advance", f"{place}, baked, and nothing speaks against {challenger.name}", challenger, shown, needed)


def _between(evidence: Evidence, better: Arm, worse: Arm) -> float:
    """Evidence that one arm is better than another."""
    return float(evidence.e_values()[better.position, worse.position])
