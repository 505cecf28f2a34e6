"""Acts on a recommendation, where the experiment says `auto`. Exactly once: the transition is a
compare-and-set."""

from datetime import timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from noregret.experiments.errors import Conflict
from noregret.experiments.lifecycle import Action
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.served import unfit
from noregret.learning.shown import canary
from noregret.learning.shown.recommendation import Recommendation, may_be_due, recommend
from noregret.rollout.transitions import advance, move
from noregret.trail import audit
from noregret.trail.models import AuditEntry

from . import guardrails, schedule

log = structlog.get_logger(__name__)

ACTOR = "learner"
ASKED_AGAIN = timedelta(days=1)
_ACTIONS: dict[str, Action] = {"promote": "promote", "stop": "stop", "rollback": "rollback"}


def guard(experiment: Experiment) -> bool:
    """Do what a guardrail asks for; True if something was done. On whatever is in the ledger, fresh
    or not."""
    return experiment.status == Experiment.Status.RUNNING and guardrails.act(experiment)


def act(experiment: Experiment) -> bool:
    """Do what is due; True if something was done. Called on fresh statistics.

    Guardrails come first, then the schedule, then what the evidence asks for. Each is decided again
    under the endpoint's lock, which every transition takes: a person who pauses, stops or promotes
    meanwhile is either before this, and is obeyed, or after it.
    """
    if experiment.status not in (Experiment.Status.RUNNING, Experiment.Status.PAUSED):
        return False
    if guard(experiment):
        return True
    try:
        if schedule.act(experiment):
            return True
    except Conflict as conflict:
        log.info("not ended", experiment=experiment.name, why=str(conflict))
        return False
    if experiment.strategy == Experiment.Strategy.CANARY and _advance(experiment):
        return True
    return _promote(experiment)


def _advance(experiment: Experiment) -> bool:
    """A canary's next step, where it goes by itself."""
    if experiment.status != Experiment.Status.RUNNING or experiment.canary_ is None or not experiment.canary_.auto:
        return False
    found = canary.due(experiment, list(experiment.arms.select_related("model").order_by("position")))
    if found.step != "advance":
        return False
    evidence = {"value": found.value, "needed": found.needed}
    try:
        advance(experiment, actor=ACTOR, reason=found.reason, evidence=evidence, step=experiment.canary_step)
    except Conflict as conflict:
        log.info("not advanced", experiment=experiment.name, why=str(conflict))
        return False
    return True


def _promote(experiment: Experiment) -> bool:
    found = _due(experiment)
    if found is None:
        if experiment.asked and experiment.status == Experiment.Status.RUNNING:
            # What was recommended is recommended no more: the next time it is told again.
            Experiment.objects.filter(pk=experiment.pk).update(asked="")
        return False
    # A canary that is shown to be worse goes back whoever promotes: waiting for a person would
    # serve the worse model.
    if found.action != "rollback" and not experiment.promotion_.auto:
        return _ask(experiment, found)
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        current = Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)
        found = _due(current)
        if found is None:
            return False
        # Under the lock, whatever the evidence says: an arm that does not answer earns nothing as
        # champion.
        hindered = unfit(current, found.arm) if found.arm is not None and found.action == "promote" else ""
        if hindered:
            log.info("not promoted", experiment=current.name, why=hindered)
            return False
        try:
            move(
                current,
                _ACTIONS[found.action],
                actor=ACTOR,
                reason=found.reason,
                arm=found.arm,
                evidence=_evidence(current, found, endpoint.policy_version),
            )
        except Conflict as conflict:
            log.info("not acted", experiment=current.name, why=str(conflict))
            return False
    log.info("acted", experiment=experiment.name, action=found.action, reason=found.reason)
    return True


def _ask(experiment: Experiment, found: Recommendation) -> bool:
    """Tell people, once, what is recommended: they decide. What wavers about its threshold is told
    once a day."""
    asked = f"{found.action} {found.arm.name if found.arm else ''}".strip()
    details = {"action": found.action, "arm": found.arm.name if found.arm else None}
    with transaction.atomic():
        if not Experiment.objects.filter(pk=experiment.pk).exclude(asked=asked).update(asked=asked):
            return False
        lately = AuditEntry.objects.filter(
            action="experiment.recommended", experiment=experiment.name, at__gt=timezone.now() - ASKED_AGAIN
        )
        if lately.filter(details__contains=details).exists():
            return False
        audit.record(
            actor=ACTOR,
            action="experiment.recommended",
            endpoint=experiment.endpoint.name,
            experiment=experiment.name,
            model=found.arm.model.model if found.arm else "",
            reason=found.reason,
            details=details | {"value": found.evidence},
        )
    return True


def _due(experiment: Experiment) -> Recommendation | None:
    """What should be done now, if anything should."""
    if experiment.status != Experiment.Status.RUNNING:
        return None
    arms = list(experiment.arms.select_related("model").order_by("position"))
    if not may_be_due(experiment, arms):
        return None
    found = recommend(experiment, arms)
    return found if found.action in _ACTIONS else None


def _evidence(experiment: Experiment, found: Recommendation, policy_version: int) -> dict[str, object]:
    """What the audit trail keeps of why."""
    return {
        "rule": experiment.promotion_.rule,
        "value": found.evidence,
        "needed": found.needed,
        "policy_version": policy_version,
    }
