"""How an experiment's arms stand to its guardrails, as results tell it."""

import time
from typing import Literal

from msgspec import Struct

from noregret.experiments.models import Arm, Experiment

from .guardrails import LONG_SECONDS, REST, Judgement, State, judge, rounded
from .watches import guardrails_of


class GuardedArm(Struct, frozen=True):
    """How an arm stands to a guardrail. `evidence` of `needed` shows it past the limit; where it is
    past, about `more` values show it."""

    name: str
    state: State
    count: int
    mean: float | None
    evidence: float | None
    needed: float
    more: int | None
    reason: str


class GuardrailState(Struct, frozen=True):
    """A guardrail, and how each arm that it can act on stands to it."""

    metric: str
    action: Literal["rollback", "disable_arm", "pause"]
    versus: Literal["limit", "control"]
    max: float | None
    min: float | None
    arms: list[GuardedArm]


_shown: dict[tuple[int, int], tuple[float, list[GuardedArm]]] = {}
"""What took long to judge, by experiment and place, and until when it is shown again as it was."""


def states(experiment: Experiment, arms: list[Arm]) -> list[GuardrailState]:
    """Every guardrail with how each arm stands to it, for the results."""
    found: list[GuardrailState] = []
    for place, guardrail in enumerate(guardrails_of(experiment)):
        began = time.monotonic()
        until, judged = _shown.get((experiment.pk, place), (0.0, []))
        if began >= until:
            judged = [_told(judgement) for judgement in judge(experiment, arms, guardrail)]
            took = time.monotonic() - began
            if took > LONG_SECONDS:
                _shown[experiment.pk, place] = (time.monotonic() + REST * took, judged)
        found.append(
            GuardrailState(guardrail.metric, guardrail.action, guardrail.versus, guardrail.max, guardrail.min, judged)
        )
    return found


def _told(judgement: Judgement) -> GuardedArm:
    return GuardedArm(
        name=judgement.arm.name,
        state=judgement.state,
        count=int(judgement.count),
        mean=judgement.mean,
        evidence=judgement.evidence,
        needed=judgement.needed,
        more=None if judgement.more is None else rounded(judgement.more),
        reason=judgement.reason,
    )
