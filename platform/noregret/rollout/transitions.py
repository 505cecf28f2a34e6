"""Moves experiments along their lifecycle: by compare-and-set, with the audit row in the same
transaction.

Of several callers who try the same at once, one succeeds and the others are told the state that it
left.
"""

from typing import Any

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone

from noregret.experiments.errors import Conflict
from noregret.experiments.lifecycle import TRANSITIONS, Action, Status
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning.baseline_figures import present_figures
from noregret.learning.served import only_failed
from noregret.learning.shown.recommendation import against_the_evidence, evidence_for
from noregret.trail import audit

from .control import control_is_champion
from .endpoints import refuse_lost, set_champion
from .publish import publish_endpoint_on_commit
from .revisions import revised


def move(
    experiment: Experiment,
    action: Action,
    *,
    actor: str,
    reason: str = "",
    arm: Arm | None = None,
    evidence: dict[str, Any] | None = None,
    revision: int | None = None,
) -> Experiment:
    """Do `action`; the experiment as it then is. `promote` needs the arm. With `revision`, only
    where a draft is still the one that the caller has seen.

    Raises Conflict when the state does not allow it, the arm to promote has failed every time it
    was asked, or a model that no process has loaded yet can't be.
    """
    transition = TRANSITIONS[action]
    if (arm is None) == (action == "promote"):
        raise ValueError("promote needs an arm, and nothing else takes one")
    if action == "start":
        refuse_lost(one.model for one in experiment.arms.filter(enabled=True).select_related("model"))
    elif arm is not None and experiment.status != Status.RUNNING:  # of one that runs, arms are loaded
        refuse_lost([arm.model])
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
            # The endpoint first, as everywhere: two lockers in two orders would wait for each
            # other.
            endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
            # A draft may have been changed since the caller read it.
            experiment = Experiment.objects.get(pk=experiment.pk)
            if revision is not None and experiment.revision != revision:
                raise Conflict(f"{experiment.name} was changed meanwhile: look at it again")
            if action in ("start", "resume") and experiment.strategy == Experiment.Strategy.CANARY:
                # A step that was interrupted bakes anew; which step it is survives.
                changes |= {"canary_step": experiment.canary_step or 0, "canary_since": now}
            moved = Experiment.objects.filter(pk=experiment.pk, status__in=transition.sources).update(**changes)
            if not moved:
                status = Experiment.objects.values_list("status", flat=True).get(pk=experiment.pk)
                raise Conflict(f"{experiment.name} is {status}: {_allowed(action)}")
            if action in ("start", "resume"):
                control_is_champion(endpoint, experiment, begun=action == "resume")
            if arm is not None and evidence is None:
                evidence = evidence_for(experiment, arm)
            if arm is not None and arm.model_id != endpoint.champion_id:
                _refuse_beside_another(experiment)
                _refuse_failure(arm)
                set_champion(endpoint, arm.model, actor=actor, reason=reason, experiment=experiment, evidence=evidence)
            details: dict[str, Any] = {}
            if arm is not None:
                details["arm"] = arm.name
                if against := against_the_evidence(experiment, arm):
                    details["against"] = against
            if evidence:
                details["evidence"] = evidence
            if action == "start" and (before := present_figures(endpoint)) is not None:
                details["baseline"] = msgspec.to_builtins(before)
            audit.record(
                actor=actor,
                action=f"experiment.{transition.past}",
                endpoint=endpoint.name,
                experiment=experiment.name,
                model=arm.model.model if arm is not None else "",
                reason=reason,
                details=details,
            )
            publish_endpoint_on_commit(endpoint.pk)
    except IntegrityError as error:
        raise Conflict(_other_running(experiment)) from error
    return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)


def advance(
    experiment: Experiment,
    *,
    actor: str,
    reason: str = "",
    evidence: dict[str, Any] | None = None,
    step: int | None = None,
) -> Experiment:
    """A canary's next step; with `step`, only from that one. Raises Conflict: of several callers at
    once one succeeds."""
    if experiment.strategy != Experiment.Strategy.CANARY or experiment.canary_ is None:
        raise Conflict(f"{experiment.name} has the strategy {experiment.strategy}: only a canary advances")
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        current = Experiment.objects.get(pk=experiment.pk)
        held = current.canary_step
        steps = experiment.canary_.steps
        if current.status != Status.RUNNING or held is None:
            raise Conflict(f"{experiment.name} is {current.status}: only a canary that is running advances")
        if step is not None and step != held:
            raise Conflict(f"{experiment.name} is at step {held + 1} already")
        if held + 1 >= len(steps):
            raise Conflict(f"{experiment.name} is at its last step: promote it, or roll it back")
        for challenger in current.arms.filter(is_control=False):
            _refuse_failure(challenger)
        Experiment.objects.filter(pk=experiment.pk).update(canary_step=held + 1, canary_since=timezone.now())
        audit.record(
            actor=actor,
            action="experiment.advanced",
            endpoint=endpoint.name,
            experiment=experiment.name,
            reason=reason,
            details={"step": held + 2, "weight": steps[held + 1]} | ({"evidence": evidence} if evidence else {}),
        )
        publish_endpoint_on_commit(endpoint.pk)
    return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)


def activate(experiment: Experiment, *, actor: str, reason: str = "") -> Experiment:
    """From now on the policy's choices are served: it is no apprentice any more. Raises
    Conflict."""
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        done = Experiment.objects.filter(pk=experiment.pk, apprentice=True).exclude(status=Status.COMPLETED)
        if not done.update(apprentice=False):
            raise Conflict(f"{experiment.name} is no apprentice, or has ended: there is nothing to activate")
        revised(experiment)
        audit.record(
            actor=actor,
            action="experiment.activated",
            endpoint=endpoint.name,
            experiment=experiment.name,
            reason=reason,
        )
        publish_endpoint_on_commit(endpoint.pk)
    return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)


def _refuse_beside_another(experiment: Experiment) -> None:
    """The champion does not change under an experiment that runs: its control would be a former
    one. Raises Conflict."""
    others = Experiment.objects.filter(endpoint_id=experiment.endpoint_id, status=Status.RUNNING).exclude(
        pk=experiment.pk
    )
    running = others.first()
    if running is not None:
        raise Conflict(f"the experiment {running.name} runs on this endpoint: stop or pause it first")


def _refuse_failure(arm: Arm) -> None:
    """Champion of an endpoint, or of more of its traffic, becomes nobody who never served a
    request. Raises Conflict."""
    failed = only_failed(arm)
    if failed:
        raise Conflict(f"{failed}: it would leave the endpoint without answers")


def _allowed(action: Action) -> str:
    sources = " or ".join(str(Status(source).value) for source in TRANSITIONS[action].sources)
    return f"only an experiment that is {sources} can be {TRANSITIONS[action].past.replace('_', ' ')}"


def _other_running(experiment: Experiment) -> str:
    other = Experiment.objects.filter(endpoint_id=experiment.endpoint_id, status=Status.RUNNING).first()
    return f"the experiment {other.name if other else 'of another caller'} runs on this endpoint: one at a time"
