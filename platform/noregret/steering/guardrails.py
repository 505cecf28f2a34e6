"""Does what a guardrail asks for, when an arm is shown to be past it: disables it, pauses, or rolls
back."""

import time

import structlog
from django.db import transaction

from noregret.experiments.errors import Conflict
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.watched.guardrails import LONG_SECONDS, REST, Judgement, judge
from noregret.learning.watched.watches import guardrails_of
from noregret.rollout.arms import set_enabled
from noregret.rollout.transitions import move
from noregret.trail import audit

log = structlog.get_logger(__name__)

ACTOR = "guardrail"

_resting: dict[tuple[int, int], float] = {}
"""Until when, by the process's clock, the guardrails of experiments (id, place) are not looked
at."""


def act(experiment: Experiment) -> bool:
    """Do what a guardrail says of the first arm that passed it; True if something was done.

    One that can't be judged keeps no other from acting; then what it raised is raised, for nothing
    else is to be done beside it.
    """
    arms = list(experiment.arms.select_related("model", "experiment").order_by("position"))
    problems: list[Exception] = []
    for place, guardrail in enumerate(guardrails_of(experiment)):
        began = time.monotonic()
        if began < _resting.get((experiment.pk, place), 0.0):
            continue
        try:
            passed = [judgement for judgement in judge(experiment, arms, guardrail) if judgement.state == "passed"]
        except Exception as error:
            problems.append(error)
            continue
        took = time.monotonic() - began
        if took > LONG_SECONDS:
            _resting[experiment.pk, place] = time.monotonic() + REST * took
        if any(_act_on(experiment, breach) for breach in passed):
            return True
    if problems:
        raise ExceptionGroup("guardrails that can't be judged", problems)
    return False


def _act_on(experiment: Experiment, breach: Judgement) -> bool:
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
                details={"action": breach.guardrail.action, **breach.figures},
            )
    except Conflict as conflict:
        log.info("guardrail not acted on", experiment=experiment.name, why=str(conflict))
        return False
    log.warning("guardrail acted", experiment=experiment.name, arm=breach.arm.name, reason=breach.reason)
    return True


def _do(experiment: Experiment, breach: Judgement) -> None:
    action, figures = breach.guardrail.action, breach.figures
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
