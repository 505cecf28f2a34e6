"""Drafts changed, and experiments told as the documents that would make them again."""

from typing import Any

import msgspec
from django.db import transaction
from msgspec import UNSET

from noregret.experiments import document as documents
from noregret.experiments.errors import Conflict, Invalid
from noregret.experiments.lifecycle import Status
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.trail import audit

from .creation import CONTROL, drafted, seat, told
from .revisions import revised

_COLUMNS = (
    "strategy",
    "policy",
    "reward",
    "promotion",
    "context",
    "canary",
    "shadow",
    "guardrails",
    "schedule",
    "sticky",
    "holdout",
    "apprentice",
    "edge_evidence",
    "edge_exclusions",
)
"""Of a row, what its document says; name and endpoint stay."""


def change_draft(
    experiment: Experiment,
    document: documents.Experiment,
    *,
    actor: str,
    reason: str = "",
    revision: int | None = None,
) -> Experiment:
    """The draft as another document has it; the experiment as it then is. With `revision`, only
    where it is still the one that the caller has seen.

    Raises Invalid; Conflict where it is no draft any more, or another caller changed it. The name
    stays, for the trail speaks of it, and so does the endpoint, whose lock orders whoever acts.
    """
    for field, kept in (("name", experiment.name), ("endpoint", experiment.endpoint.name)):
        if getattr(document, field) != kept:
            raise Invalid(field, f"{kept} was expected: a draft keeps its {field}, copy it for another")
    with transaction.atomic():
        # The endpoint first, as everywhere: whoever starts it waits here, or has started it.
        Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
        current = Experiment.objects.get(pk=experiment.pk)
        if current.status != Status.DRAFT:
            raise Conflict(f"{current.name} is {current.status}: only a draft can be changed")
        if revision is not None and current.revision != revision:
            raise Conflict(f"{current.name} was changed meanwhile: look at it again")
        row, arms = drafted(document)
        changed = {column: getattr(row, column) for column in _COLUMNS}
        details = told(row, arms) | {"changed": _changed(current, changed, arms)}
        Experiment.objects.filter(pk=current.pk).update(**changed)
        revised(current)
        # Nothing is known of a draft's arms: others take their seats. Who was taken out stays so.
        out = set(current.arms.filter(enabled=False).values_list("name", flat=True))
        for arm in arms if any(arm.name not in out for arm in arms) else ():
            arm.enabled = arm.name not in out
        current.arms.all().delete()
        seat(current, arms)
        audit.record(
            actor=actor,
            action="experiment.changed",
            endpoint=document.endpoint,
            experiment=current.name,
            reason=reason,
            details=details,
        )
    return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)


def _changed(before: Experiment, after: dict[str, Any], arms: list[Arm]) -> list[str]:
    """The parts that are other than they were."""
    parts = [column for column, value in after.items() if getattr(before, column) != value]
    seats = [(arm.name, arm.model_id, arm.weight, arm.payload, arm.cost) for arm in arms]
    were = [(arm.name, arm.model_id, arm.weight, arm.payload, arm.cost) for arm in before.arms.order_by("position")]
    return parts if seats == were else ["arms", *parts]


def document_of(experiment: Experiment) -> documents.Experiment:
    """A document that makes the same experiment on its endpoint as that is today; what would be its
    default is left out.

    A control that nobody named is not named here either: the champion may be another by now.
    """
    endpoint = experiment.endpoint
    policy = experiment.policy_
    arms = [
        documents.Arm(arm.name, arm.model.model, arm.weight, arm.payload, arm.cost)
        for arm in experiment.arms.select_related("model").order_by("position")
        if not _is_added(arm)
    ]
    made = documents.Experiment(
        name=experiment.name,
        endpoint=endpoint.name,
        strategy=experiment.strategy,  # type: ignore[arg-type]  # a row has no other
        arms=arms,
        policy=UNSET
        if policy is None
        else msgspec.structs.replace(policy.document, floor=None if policy.floor_scales else policy.floor),
        reward=_reward(experiment),
        promotion=msgspec.convert(msgspec.to_builtins(experiment.promotion_), documents.Promotion),
        context=experiment.context_ if experiment.context_.fields else None,
        canary=UNSET if experiment.canary_ is None else experiment.canary_,
        shadow=UNSET if experiment.shadow_ is None else experiment.shadow_,
        guardrails=experiment.guardrails_ or None,
        sticky=experiment.sticky,
        holdout=experiment.holdout,
        apprentice=experiment.apprentice,
        schedule=None if experiment.schedule is None else experiment.schedule_,
        edge_evidence=experiment.edge_evidence,
        edge_exclusions=experiment.edge_exclusions,
    )
    return _without_defaults(made)


def _is_added(arm: Arm) -> bool:
    return (
        arm.is_control
        and arm.name == CONTROL
        and not arm.position
        and (arm.weight, arm.payload, arm.cost)
        == (
            None,
            None,
            0.0,
        )
    )


def _reward(experiment: Experiment) -> documents.Reward:
    """The endpoint's where it is that, as where a document names none."""
    reward, endpoints = experiment.reward_, experiment.endpoint.reward
    given = documents.Reward() if endpoints is None else msgspec.convert(endpoints, documents.Reward)
    return documents.UnnamedReward() if reward == given else reward


def _without_defaults(document: documents.Experiment) -> documents.Experiment:
    """What follows from the rest is not said: promotion's `auto`, and a canary's own guardrail."""
    silent = msgspec.structs.replace(document, promotion=msgspec.structs.replace(document.promotion, auto=UNSET))
    if documents.promotion_of(silent) == document.promotion:
        document = silent
    rails = document.guardrails or []
    if rails and documents.with_default_guardrails(document.strategy, rails[:-1]) == rails:
        document = msgspec.structs.replace(document, guardrails=rails[:-1] or None)
    return document
