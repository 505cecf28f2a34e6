"""What is due of a canary: wait, advance, promote or roll back.

It advances when its step has baked and nothing speaks against it: no guardrail passed, no evidence
that the control is better. Time alone is no bake: the challenger must have served decisions itself
at this step, been heard of where its reward has no default, and every guardrail must have so much
to go by that it can be judged. Before the step that leaves the control without traffic, and before
promotion, an experiment with an `indifference` must have shown that the challenger is less than
that worse. It rolls back as soon as the control is shown to be better.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.utils import timezone

from bandits.inference.evidence import Evidence
from noregret.experiments.document import Canary
from noregret.experiments.models import Arm, Experiment
from noregret.learning.evidence import evidence_of, not_comparable
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.served import rewarded_since, served_since, unfit
from noregret.learning.watched.guardrails import lacking
from noregret.learning.watched.watches import guardrails_of

from .phrases import evidence_told

Step = Literal["wait", "advance", "promote", "rollback"]

MIN_DECISIONS = 20
"""Of a canary that was made before it could say how many decisions a step asks for."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is due, in a word and a sentence. `value` of `needed` is the evidence that was asked
    for, where some was."""

    step: Step
    reason: str
    arm: Arm | None = None
    value: float | None = None
    needed: float | None = None


def due(experiment: Experiment, arms: list[Arm], now: datetime | None = None) -> Due:
    """Of a running canary."""
    challenger = next((arm for arm in arms if not arm.is_control), None)
    control = next((arm for arm in arms if arm.is_control), None)
    canary, at, since = experiment.canary_, experiment.canary_step, experiment.canary_since
    if challenger is None or control is None or canary is None or at is None or since is None:
        return Due("wait", "the canary has not begun")
    promotion = experiment.promotion_
    needed = 1.0 / promotion.alpha
    held = ExperimentEvidence.objects.get(experiment=experiment)
    unlike = not_comparable(experiment, held)
    # Outcomes that can't be compared speak neither for nor against: guardrails and service are what
    # is left to go by.
    evidence = None if unlike else evidence_of(experiment, held)
    against = 1.0 if evidence is None else _between(evidence, control, challenger)
    if against >= needed:
        said = f"{control.name} beats {challenger.name}: {evidence_told(against, needed)}"
        return Due("rollback", said, challenger, against, needed)
    steps = canary.steps
    place = f"step {at + 1} of {len(steps)}, {steps[at]:.0%} of the traffic"
    if not challenger.enabled:
        return Due("wait", f"{place}; {challenger.name} is disabled")
    left = canary.bake_seconds - ((now or timezone.now()) - since).total_seconds()
    if left > 0:
        return Due("wait", f"{place}; it bakes for another {math.ceil(left):,} s", challenger, against, needed)
    last = at + 1 >= len(steps)
    missing = _missing(experiment, canary, since, challenger, control, at=at) or unfit(experiment, challenger)
    if missing:
        return Due("wait", f"{place}; {missing}", challenger, against, needed)
    if promotion.indifference > 0 and unlike and (last or steps[at + 1] >= 1.0):
        return Due("wait", f"{place}; {unlike}", challenger, against, needed)
    shown = 1.0
    if promotion.indifference > 0 and evidence is not None and (last or steps[at + 1] >= 1.0):
        alike = evidence.noninferiority_e_values()
        better = _between(evidence, challenger, control)
        shown = max(better, 1.0 if alike is None else float(alike[challenger.position, control.position]))
        if shown < needed:
            said = (
                f"{place}; waits to show that {challenger.name} is less than {promotion.indifference:.1%} worse: "
                f"{evidence_told(shown, needed)}"
            )
            return Due("wait", said, challenger, shown, needed)
    if last:
        return Due(
            "promote", f"{challenger.name} baked at every step, and nothing spoke against it", challenger, shown, needed
        )
    return Due("advance", f"{place}, baked, and nothing speaks against {challenger.name}", challenger, shown, needed)


def _missing(experiment: Experiment, canary: Canary, since: datetime, challenger: Arm, control: Arm, *, at: int) -> str:
    """What a baked step still lacks of what could have spoken against the challenger; empty where
    it lacks nothing."""
    steps = canary.steps
    last = at + 1 >= len(steps)
    asked = canary.min_decisions
    served = served_since(experiment, challenger, since)
    if served < asked:
        return f"waits for traffic: {challenger.name} has served {served:,} of the {asked:,} decisions that a step asks for"
    min_rewards = experiment.promotion_.min_rewards
    silent = experiment.reward_.default is None
    if silent:
        # Silence means nothing here, so what was not answered says nothing for the challenger.
        wanted = min(asked, min_rewards)
        heard = rewarded_since(experiment, challenger, since)
        if heard < wanted:
            return f"waits for answers: {heard:,} of {wanted:,} rewards came for {challenger.name} at this step"
    unjudged = _unjudged(experiment, challenger, control if steps[at] < 1.0 else None)
    if unjudged:
        return unjudged
    if last:
        own = ArmStatistics.objects.get(arm=challenger)
        if own.decisions - own.failures < min_rewards:
            return f"{challenger.name} has served {own.decisions - own.failures:,} of {min_rewards:,} decisions"
        if silent and own.rewards < min_rewards:
            return f"{challenger.name} has {own.rewards:,} of {min_rewards:,} rewards"
    # Of the control while it still can get them: after the step that takes its traffic nothing more
    # is heard of it.
    if silent and steps[at] < 1.0 and (last or steps[at + 1] >= 1.0):
        base = ArmStatistics.objects.get(arm=control)
        if base.decisions and base.rewards < min_rewards:
            return f"{control.name} has {base.rewards:,} of {min_rewards:,} rewards"
    return ""


def _unjudged(experiment: Experiment, challenger: Arm, control: Arm | None) -> str:
    """Which guardrail can't be judged yet: that it was not passed then says nothing."""
    for guardrail in guardrails_of(experiment):
        lacks = lacking(experiment, guardrail, challenger, control)
        if lacks:
            return f"the guardrail on {guardrail.metric} can't be judged yet: {lacks}"
    return ""


def _between(evidence: Evidence, better: Arm, worse: Arm) -> float:
    """Evidence that one arm is better than another."""
    return float(evidence.e_values()[better.position, worse.position])
