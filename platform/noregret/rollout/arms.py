"""Arms added, taken out and put back while an experiment goes on. An arm's position is for ever:
vectors of the ledger are by position."""

from typing import Any

import msgspec
from django.db import IntegrityError, transaction

from noregret.experiments import document as documents
from noregret.experiments.errors import Conflict, Invalid
from noregret.experiments.lifecycle import Status
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning.models import ArmStatistics
from noregret.trail import audit

from .endpoints import check_compatible, find_model, refuse_lost
from .publish import publish_endpoint_on_commit
from .revisions import revised

MOST = 100


def add_arm(experiment: Experiment, arm: documents.Arm, *, actor: str, reason: str = "") -> Arm:
    """A new arm, last; under a bandit it gets its burn-in. Raises Invalid, Conflict."""
    if arm.weight is not None:
        raise Invalid("weight", "only an ab experiment has weights")
    model = find_model(arm.model, "model")
    refuse_lost([model])
    try:
        with transaction.atomic():
            endpoint = (
                Endpoint.objects.select_for_update(of=("self",))
                .select_related("champion")
                .get(pk=experiment.endpoint_id)
            )
            current = Experiment.objects.get(pk=experiment.pk)
            if current.status == Status.COMPLETED:
                raise Conflict(f"{experiment.name} has ended")
            if current.strategy not in (Experiment.Strategy.BANDIT, Experiment.Strategy.SHADOW):
                raise Conflict(f"{experiment.name} has the strategy {current.strategy}: its arms are fixed")
            check_compatible(model, endpoint.champion, "model")
            position = experiment.arms.count()
            if position >= MOST:
                raise Conflict(f"{experiment.name} has {MOST} arms already")
            policy = None if current.policy_ is None else current.policy_.for_arms(position + 1)
            if policy is not None and policy.floor * (position + 1) > 1:
                raise Conflict(f"a floor of {policy.floor:g} leaves no room for {position + 1} arms")
            if policy != current.policy_:
                Experiment.objects.filter(pk=current.pk).update(policy=msgspec.to_builtins(policy))
            made = Arm.objects.create(
                experiment=experiment, position=position, name=arm.name, model=model, payload=arm.payload, cost=arm.cost
            )
            ArmStatistics.objects.create(arm=made)
            revised(current)
            _tell(endpoint, experiment, made, "experiment.arm_added", actor, reason)
    except IntegrityError as error:
        raise Conflict(f"{experiment.name} has an arm {arm.name} already") from error
    return made


def set_enabled(arm: Arm, enabled: bool, *, actor: str, reason: str = "", details: dict[str, Any] | None = None) -> Arm:
    """Take an arm out of the traffic, or put it back. Raises Conflict."""
    experiment = arm.experiment
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        current = Experiment.objects.get(pk=experiment.pk)
        if current.status == Status.COMPLETED:
            raise Conflict(f"{experiment.name} has ended")
        if not current.arms.filter(pk=arm.pk).exists():
            raise Conflict(f"{experiment.name} was changed meanwhile: it has another arm {arm.name}, or none")
        fixed = current.strategy in (Experiment.Strategy.CANARY, Experiment.Strategy.AB)
        if not enabled and arm.is_control and fixed:
            raise Conflict(f"{arm.name} is the control of {experiment.name}, and the others are held against it")
        if not enabled and not current.arms.filter(enabled=True).exclude(pk=arm.pk).exists():
            raise Conflict(f"{arm.name} is the last arm that is enabled: stop or pause the experiment instead")
        if not Arm.objects.filter(pk=arm.pk, enabled=not enabled).update(enabled=enabled):
            raise Conflict(f"{arm.name} is {'enabled' if enabled else 'disabled'} already")
        revised(current)
        action = "experiment.arm_enabled" if enabled else "experiment.arm_disabled"
        _tell(endpoint, experiment, arm, action, actor, reason, details)
    return Arm.objects.select_related("experiment", "model").get(pk=arm.pk)


def _tell(
    endpoint: Endpoint,
    experiment: Experiment,
    arm: Arm,
    action: str,
    actor: str,
    reason: str,
    details: dict[str, Any] | None = None,
) -> None:
    audit.record(
        actor=actor,
        action=action,
        endpoint=endpoint.name,
        experiment=experiment.name,
        model=arm.model.model,
        reason=reason,
        details={"arm": arm.name} | (details or {}),
    )
    publish_endpoint_on_commit(endpoint.pk)
