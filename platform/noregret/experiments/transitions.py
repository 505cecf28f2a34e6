"""Moves experiments along their lifecycle: by compare-and-set, with the audit row in the same transaction.

Of several callers who try the same at once, one succeeds and the others are told the state that it left.
"""

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from noregret.access import audit

from .endpoints import set_champion
from .errors import Conflict
from .lifecycle import TRANSITIONS, Action, Status
from .models import Arm, Endpoint, Experiment
from .publish import publish_endpoint_on_commit


def move(
    experiment: Experiment,
    action: Action,
    *,
    actor: str,
    reason: str = "",
    arm: Arm | None = None,
    evidence: dict[str, Any] | None = None,
) -> Experiment:
    """Do `action`; the experiment as it then is. `promote` needs the arm. Raises Conflict when the state does not allow it."""
    transition = TRANSITIONS[action]
    if (arm is None) == (action == "promote"):
        raise ValueError("promote needs an arm, and nothing else takes one")
    now = timezone.now()
    changes: dict[str, Any] = {"status": transition.target}
    if action == "start":
        changes["started_at"] = now
    if transition.outcome is not None:
        changes |= {"outcome": transition.outcome, "ended_at": now}
    if arm is not None:
        changes["promoted_arm"] = arm
    try:
        with transaction.atomic():
            # The endpoint first, as everywhere: two lockers in two orders would wait for each other.
            endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
            moved = Experiment.objects.filter(pk=experiment.pk, status__in=transition.sources).update(**changes)
            if not moved:
                status = Experiment.objects.values_list("status", flat=True).get(pk=experiment.pk)
                raise Conflict(f"{experiment.name} is {status}: {_allowed(action)}")
            if arm is not None and arm.model_id != endpoint.champion_id:
                set_champion(endpoint, arm.model, actor=actor, reason=reason, experiment=experiment, evidence=evidence)
            audit.record(
                actor=actor,
                action=f"experiment.{transition.past}",
                endpoint=endpoint.name,
                experiment=experiment.name,
                model=arm.model.model if arm is not None else "",
                reason=reason,
                details=({"arm": arm.name} if arm is not None else {}) | ({"evidence": evidence} if evidence else {}),
            )
            publish_endpoint_on_commit(endpoint.pk)
    except IntegrityError as error:
        raise Conflict(_other_running(experiment)) from error
    return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)


def _allowed(action: Action) -> str:
    sources = " or ".join(str(Status(source).value) for source in TRANSITIONS[action].sources)
    return f"only an experiment that is {sources} can be {TRANSITIONS[action].past.replace('_', ' ')}"


def _other_running(experiment: Experiment) -> str:
    other = Experiment.objects.filter(endpoint_id=experiment.endpoint_id, status=Status.RUNNING).first()
    return f"the experiment {other.name if other else 'of another caller'} runs on this endpoint: one at a time"
