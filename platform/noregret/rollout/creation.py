"""Makes experiments from documents."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from django.db import IntegrityError, transaction

from noregret.experiments import document as documents
from noregret.experiments import document_check, stored
from noregret.experiments.errors import Conflict, Invalid
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning.evidence import RULES
from noregret.learning.models import ArmStatistics, ExperimentEvidence, LedgerSums
from noregret.trail import audit

from .endpoints import check_compatible, find_model

CONTROL = "control"


class Draft(NamedTuple):
    """Rows that a document makes, not saved yet. `arms` are in order, the control among them."""

    experiment: Experiment
    arms: list[Arm]


def drafted(document: documents.Experiment) -> Draft:
    """The rows of a document, checked. Raises Invalid.

    Where no arm has the endpoint's champion, an arm `control` with it is added, first.
    """
    endpoint = Endpoint.objects.select_related("champion").filter(name=document.endpoint).first()
    document = documents.with_reward_of(document, None if endpoint is None else endpoint.reward)
    document_check.check(document)
    if endpoint is None:
        raise Invalid("endpoint", f"there is no endpoint {document.endpoint}")
    arms = _arms(document, endpoint)
    if len(arms) < 2:
        raise Invalid("arms", "one arm is the champion itself: at least one other was expected")
    policy = document_check.policy_of(document, len(arms))
    experiment = Experiment(
        name=document.name,
        endpoint=endpoint,
        strategy=document.strategy,
        policy=None if policy is None else msgspec.to_builtins(stored.Policy.complete(policy, len(arms))),
        reward=msgspec.to_builtins(document.reward),
        promotion=msgspec.to_builtins(documents.promotion_of(document)),
        context=None if document.context is None else msgspec.to_builtins(document.context),
        canary=_part(document.canary, documents.Canary) if document.strategy == "canary" else None,
        shadow=_part(document.shadow, documents.Shadow) if document.strategy == "shadow" else None,
        guardrails=msgspec.to_builtins(documents.with_default_guardrails(document.strategy, document.guardrails or [])),
        schedule=None if document.schedule is None else msgspec.to_builtins(document.schedule),
        sticky=document.sticky or (document.strategy == "bandit" and endpoint.sticky),
        holdout=document.holdout,
        apprentice=document.apprentice,
        edge_evidence=document.edge_evidence,
        edge_exclusions=document.edge_exclusions,
    )
    for arm in arms:
        arm.experiment = experiment
    return Draft(experiment, arms)


def create_experiment(document: documents.Experiment, *, actor: str) -> Experiment:
    """A draft, saved. Raises Invalid, Conflict."""
    experiment, arms = drafted(document)
    try:
        with transaction.atomic():
            experiment.save(force_insert=True)
            seat(experiment, arms)
            ExperimentEvidence.objects.create(experiment=experiment, rules=RULES, gone_through=True)
            LedgerSums.objects.create(experiment=experiment)
            audit.record(
                actor=actor,
                action="experiment.created",
                endpoint=experiment.endpoint.name,
                experiment=experiment.name,
                details=told(experiment, arms),
            )
    except IntegrityError as error:
        raise Conflict(f"there is an experiment {document.name} already") from error
    return experiment


def seat(experiment: Experiment, arms: list[Arm]) -> None:
    """Save the arms of a draft, with statistics of nothing yet."""
    for arm in arms:
        arm.experiment = experiment
    Arm.objects.bulk_create(arms)
    ArmStatistics.objects.bulk_create(ArmStatistics(arm=arm) for arm in arms)


def told(experiment: Experiment, arms: list[Arm]) -> dict[str, Any]:
    """What the trail tells of a draft."""
    return {"strategy": experiment.strategy, "arms": {arm.name: arm.model.model for arm in arms}}


def _part(given: Any, kind: Callable[[], Any]) -> Any:
    """A part of the document with its defaults."""
    return msgspec.to_builtins(kind() if given in (msgspec.UNSET, None) else given)


def _arms(document: documents.Experiment, endpoint: Endpoint) -> list[Arm]:
    arms: list[Arm] = []
    for i, arm in enumerate(document.arms):
        model = find_model(arm.model, f"arms[{i}].model")
        check_compatible(model, endpoint.champion, f"arms[{i}].model")
        arms.append(Arm(name=arm.name, model=model, weight=arm.weight, payload=arm.payload, cost=arm.cost))
    if not any(arm.model_id == endpoint.champion_id for arm in arms):
        if any(arm.name == CONTROL for arm in arms):
            raise Invalid("arms", f"an arm is called {CONTROL}, but it does not have the champion {endpoint.champion}")
        if any(arm.weight is not None for arm in arms):
            raise Invalid("arms", f"with weights, name every arm: none has the champion {endpoint.champion}")
        arms.insert(0, Arm(name=CONTROL, model=endpoint.champion))
    next(arm for arm in arms if arm.model_id == endpoint.champion_id).is_control = True
    for position, seat in enumerate(arms):
        seat.position = position
    return arms
