"""Makes endpoints and changes their champions. Every change of champion is recorded, and can be
undone."""

from collections.abc import Iterable
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from msgspec import UNSET, UnsetType

from noregret.experiments.batches import Batch
from noregret.experiments.caching import Cache
from noregret.experiments.document import Reward
from noregret.experiments.document_check import check_reward
from noregret.experiments.errors import Conflict, FileLost, Invalid
from noregret.experiments.models import ChampionChange, Endpoint, Experiment
from noregret.names import validate_name
from noregret.registry.lost_files import lost_among
from noregret.registry.models import ModelVersion
from noregret.trail import audit

from . import agreement
from .baselines import keep_baseline
from .publish import publish_endpoint_on_commit


def find_model(reference: str, field: str) -> ModelVersion:
    """The model version `name@version`. Raises Invalid."""
    name, _, version = reference.partition("@")
    found = ModelVersion.objects.filter(name=name, version=version).first()
    if found is None:
        raise Invalid(field, f"no model version {reference} is registered")
    return found


def check_compatible(model: ModelVersion, with_model: ModelVersion, field: str) -> None:
    """Models behind one endpoint take the same rows and give the same kind of outputs. Raises
    Invalid."""
    problem = agreement.difference(model, with_model)
    if problem is not None:
        raise Invalid(field, problem)
    ours, theirs = model.signature, with_model.signature
    if ours["task"] != theirs["task"] and "other" not in (ours["task"], theirs["task"]):
        raise Invalid(field, f"{model.model} is a {ours['task']}, {with_model.model} a {theirs['task']}")


def refuse_lost(models: Iterable[ModelVersion], *, can_be_forced: bool = False) -> None:
    """What no process could load gets no traffic: a champion's predecessor would be dropped for it.
    Called before the lock, for it may ask the store. Raises FileLost."""
    lost = lost_among(models)
    if lost is not None:
        model, sha256 = lost
        raise FileLost(
            f"the file {sha256} that {model.model} is loaded from is neither here nor in the artefact store: put it "
            f"back, or register {model.model} again with the same artefact",
            can_be_forced=can_be_forced,
        )


def create_endpoint(
    *,
    name: str,
    champion: str,
    deadline_ms: int,
    actor: str,
    sticky: bool = False,
    record: float = 1.0,
    reward: Reward | None = None,
    cache: Cache | None = None,
    batch: Batch | None = None,
) -> Endpoint:
    """`record`: the share of its single deployments that is recorded. `cache`: what web processes
    keep of its answers. `batch`: how requests are computed together. Raises Invalid, Conflict."""
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid("name", error.messages[0]) from error
    model = find_model(champion, "champion")
    if reward is not None:
        check_reward(reward)
    refuse_lost([model])
    try:
        with transaction.atomic():
            endpoint = Endpoint.objects.create(
                name=name,
                champion=model,
                deadline_ms=deadline_ms,
                sticky=sticky,
                record=record,
                reward=None if reward is None else msgspec.to_builtins(reward),
                cache=None if cache is None else msgspec.to_builtins(cache),
                batch=None if batch is None else msgspec.to_builtins(batch),
            )
            keep_baseline(endpoint)
            ChampionChange.objects.create(endpoint=endpoint, champion=model, previous=None, actor=actor)
            audit.record(actor=actor, action="endpoint.created", endpoint=name, model=model.model)
            publish_endpoint_on_commit(endpoint.pk)
    except IntegrityError as error:
        raise Conflict(f"there is an endpoint {name} already") from error
    return endpoint


def update_endpoint(
    endpoint: Endpoint,
    *,
    champion: str | None,
    deadline_ms: int | None,
    reason: str,
    actor: str,
    sticky: bool | None = None,
    record: float | None = None,
    reward: Reward | UnsetType | None = UNSET,
    cache: Cache | UnsetType | None = UNSET,
    batch: Batch | UnsetType | None = UNSET,
    force: bool = False,
) -> Endpoint:
    """Change the champion, the deadline, whether its next bandits are sticky, what of its single
    deployments is recorded, what is kept of its answers, or how requests are computed together.

    None takes the endpoint's `reward`, `cache` or `batch` away; `force`: also to a champion whose
    file is lost. Raises Invalid, Conflict.
    """
    if isinstance(reward, Reward):
        check_reward(reward)
    if champion is not None and not force and (model := find_model(champion, "champion")).pk != endpoint.champion_id:
        refuse_lost([model], can_be_forced=True)
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        details: dict[str, Any] = {}
        for name, setting in (("deadline_ms", deadline_ms), ("sticky", sticky), ("record", record)):
            if setting is not None:
                _set(endpoint, name, setting, details)
        for name, document in (("reward", reward), ("cache", cache), ("batch", batch)):
            if document is not UNSET:
                _set(endpoint, name, None if document is None else msgspec.to_builtins(document), details)
        if champion is not None:
            model = find_model(champion, "champion")
            if model.pk != endpoint.champion_id:
                _refuse_while_running(endpoint)
                check_compatible(model, endpoint.champion, "champion")
                set_champion(endpoint, model, actor=actor, reason=reason)
        keep_baseline(endpoint)
        if details:
            audit.record(actor=actor, action="endpoint.updated", endpoint=endpoint.name, reason=reason, details=details)
        publish_endpoint_on_commit(endpoint.pk)
    return endpoint


def _set(endpoint: Endpoint, name: str, value: Any, details: dict[str, Any]) -> None:
    """Change a column, and tell `details` from what to what; nothing where it is so already."""
    before = getattr(endpoint, name)
    if value == before:
        return
    details[name] = [before, value]
    setattr(endpoint, name, value)
    endpoint.save(update_fields=[name])


def rollback_endpoint(
    endpoint: Endpoint, *, reason: str, actor: str, to: str | None = None, force: bool = False
) -> Endpoint:
    """The champion before this one is champion again; once more goes one further back. `to` names
    any earlier one; `force`: also where its file is lost.

    Raises Invalid, Conflict.
    """
    target = champion_before(endpoint) if to is None else find_model(to, "to")
    if target is not None and not force:
        refuse_lost([target], can_be_forced=True)
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        _refuse_while_running(endpoint)
        if to is not None:
            return _roll_back_to(endpoint, to, reason=reason, actor=actor)
        change = _change_to_undo(endpoint)
        if change is None or change.previous is None:
            raise Conflict(f"{endpoint.name} has no earlier champion to go back to")
        set_champion(endpoint, change.previous, actor=actor, reason=reason, undoes=change)
        publish_endpoint_on_commit(endpoint.pk)
    return endpoint


def _roll_back_to(endpoint: Endpoint, to: str, *, reason: str, actor: str) -> Endpoint:
    """Under the endpoint's lock. The change that brought the present champion is what is undone."""
    model = find_model(to, "to")
    if model.pk == endpoint.champion_id:
        raise Conflict(f"{to} is the champion of {endpoint.name} already")
    changes = endpoint.champion_changes.order_by("-pk")
    if not changes.filter(champion=model).exists():
        raise Invalid("to", f"{to} never was the champion of {endpoint.name}")
    set_champion(endpoint, model, actor=actor, reason=reason, undoes=changes.filter(champion=endpoint.champion).first())
    publish_endpoint_on_commit(endpoint.pk)
    return endpoint


def _change_to_undo(endpoint: Endpoint) -> ChampionChange | None:
    """The newest change that was neither undone nor is an undoing itself."""
    changes = endpoint.champion_changes.select_related("previous").order_by("-pk")
    undone = set(changes.filter(undoes__isnull=False).values_list("undoes_id", flat=True))
    return next((change for change in changes if change.undoes_id is None and change.pk not in undone), None)


def champion_before(endpoint: Endpoint) -> ModelVersion | None:
    """Who becomes champion by a roll-back; None where there is none to go back to."""
    change = _change_to_undo(endpoint)
    return None if change is None else change.previous


def _refuse_while_running(endpoint: Endpoint) -> None:
    running = endpoint.experiments.filter(status=Experiment.Status.RUNNING).first()
    if running is not None:
        raise Conflict(f"the experiment {running.name} runs on {endpoint.name}: stop or pause it first")


def set_champion(
    endpoint: Endpoint,
    model: ModelVersion,
    *,
    actor: str,
    reason: str,
    experiment: Experiment | None = None,
    evidence: dict[str, Any] | None = None,
    undoes: ChampionChange | None = None,
) -> None:
    """Make `model` champion, with its record and audit row. Called under the endpoint's lock, in a
    transaction."""
    previous = endpoint.champion
    endpoint.champion = model
    endpoint.save(update_fields=["champion"])
    keep_baseline(endpoint)
    ChampionChange.objects.create(
        endpoint=endpoint,
        champion=model,
        previous=previous,
        experiment=experiment,
        actor=actor,
        reason=reason,
        evidence=evidence or {},
        undoes=undoes,
    )
    audit.record(
        actor=actor,
        action="endpoint.rolled_back" if undoes else "endpoint.champion_changed",
        endpoint=endpoint.name,
        experiment=experiment.name if experiment else "",
        model=model.model,
        reason=reason,
        details={"previous": previous.model},
    )
