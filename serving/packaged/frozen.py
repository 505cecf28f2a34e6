"""A snapshot that was frozen into a package: from its JSON to what requests are answered by.

The exporter writes every field (noregret.packaging.contents); so nothing has a default here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bandits.context import ContextSchema
from serving.routing import OneSeatRouter, Router, Uniform, router
from serving.runtimes import onnx_graph
from serving.runtimes.columns import Column, Columns
from serving.runtimes.linear import LinearForm, LinearRuntime
from serving.runtimes.runtime import ModelError, Runtime
from serving.runtimes.static_runtime import StaticRuntime

FORM = 1
"""Of the document: grows when an older reader would misread it."""
SNAPSHOT = "snapshot.json"
MODELS = "models"


@dataclass(frozen=True, slots=True)
class FrozenModel:
    """A model version, loaded, and which rows it takes."""

    name: str
    runtime: Runtime
    features: int | None
    feature_names: list[str] | None
    columns: Columns | None


@dataclass(frozen=True, slots=True)
class FrozenSeat:
    """Who may answer: an arm, or the champion of a single deployment."""

    model: FrozenModel
    payload: Any
    arm_id: int
    arm: str | None


@dataclass(frozen=True, slots=True)
class Reward:
    """What feedback must be."""

    metric: str
    kind: str
    minimum: float | None
    maximum: float | None
    declared: bool
    window_seconds: float


@dataclass(frozen=True, slots=True)
class Frozen:
    """An endpoint as the package has it: a Choice (serving.choosing)."""

    name: str
    version: int
    seats: tuple[FrozenSeat, ...]
    champion_seat: FrozenSeat
    router: Router
    schema: ContextSchema | None
    experiment_id: int
    experiment: str | None
    strategy: str
    is_sticky: bool
    enabled_ids: tuple[int, ...]
    record: float
    """The share of decisions that are kept."""
    reward: Reward | None
    receipt: str | None
    """What the platform checks this package's events by; None where it keeps none of them."""
    expires_at: float
    """Unix time, seconds: what is decided later teaches nothing."""


def thaw(document: Mapping[str, Any], folder: Path, uniform: Uniform) -> Frozen:
    """The endpoint of a document, with its models from `folder`; arms are drawn by `uniform`.
    Raises ValueError for a form that is not known here, and ModelError for a model that can't be
    loaded."""
    if document["form"] != FORM:
        raise ValueError(f"a snapshot of form {document['form']} where {FORM} was expected")
    models = {name: _model(name, described, folder) for name, described in document["models"].items()}
    champion = FrozenSeat(models[document["champion"]], document["payload"], document["champion_id"], None)
    told = document["experiment"]
    reward = document["reward"]
    common = {
        "name": document["endpoint"],
        "version": document["version"],
        "experiment_id": document["experiment_id"],
        "record": document["record"],
        "reward": None if reward is None else Reward(**reward),
        "receipt": document["receipt"],
        "expires_at": document["expires_at"],
        "champion_seat": champion,
    }
    if told is None:
        return Frozen(
            **common,
            seats=(champion,),
            router=OneSeatRouter(),
            schema=None,
            experiment=None,
            strategy="single",
            is_sticky=False,
            enabled_ids=(),
        )
    experiment: Any = experiment_of(told)
    return Frozen(
        **common,
        seats=tuple(FrozenSeat(models[arm.model], arm.payload, arm.id, arm.name) for arm in experiment.arms),
        router=router(experiment, uniform, counts_pulls=False),
        schema=ContextSchema.from_document(experiment.context) if experiment.context else None,
        experiment=experiment.name,
        strategy=experiment.strategy,
        is_sticky=experiment.sticky,
        enabled_ids=tuple(arm.id if arm.enabled else -1 for arm in experiment.arms),
    )


def experiment_of(told: Mapping[str, Any]) -> SimpleNamespace:
    """What a router reads of serving.snapshot.Experiment, by the same names."""
    parts = {name: told[name] and SimpleNamespace(**told[name]) for name in ("policy", "belief")}
    return SimpleNamespace(**{**told, **parts, "arms": [SimpleNamespace(**arm) for arm in told["arms"]]})


def _model(name: str, told: Mapping[str, Any], folder: Path) -> FrozenModel:
    columns = None if told["columns"] is None else tuple(Column(**column) for column in told["columns"])
    return FrozenModel(name, _runtime(name, told, folder), told["features"], told["feature_names"], columns)


def _runtime(name: str, told: Mapping[str, Any], folder: Path) -> Runtime:
    if told["runtime"] == "static":
        return StaticRuntime(told["payload"])
    if told["parameters"] is not None:
        return LinearRuntime(LinearForm(**told["parameters"]), told["outputs"])
    body = (folder / MODELS / f"{told['sha256']}.onnx").read_bytes()
    if hashlib.sha256(body).hexdigest() != told["sha256"]:
        raise ModelError(f"the file of {name} is damaged: install the package anew")
    return onnx_graph.OnnxRuntime(body, told["outputs"])
