"""The Open Inference Protocol (v2) whatever carries it: an endpoint is its model, a model version
one of its versions, and a decision's parts are the answer's parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from serving import problems
from serving.live import LiveEndpoint, LiveModel
from serving.process import Process
from serving.runtimes.columns import Rows

from . import bodies, face, model_tensors
from .documents import DecideRequest, DecisionResponse, RowsRequest
from .tensors import Described, Tensor

_CONTEXT = "context."
_TOLD = tuple(name for name in DecisionResponse.__struct_fields__ if name != "endpoint")
"""Of a decision, what the answer's parameters tell."""
_TAKEN = ("unit", "request_id", "activate")
"""Parameters of a request that are predict's fields of the same name."""


class Asked(NamedTuple):
    """A request of inference. `outputs` names those that are wanted; none: all of them."""

    tensors: Sequence[Tensor]
    parameters: Mapping[str, Any]
    outputs: Sequence[str] = ()


class Answered(NamedTuple):
    """`parameters` hold strings, numbers and booleans alone: what is null is left out."""

    version: str
    parameters: dict[str, str | bool | int | float]
    tensors: list[Tensor]


class Metadata(Struct):
    """What is told of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Described]
    outputs: list[Described]


def metadata(live: LiveEndpoint, version: str | None) -> Metadata:
    """Of an endpoint, or of one of its versions. Raises Problem 404."""
    model = (live.champion if version is None else face.version(live, version)).model
    return Metadata(
        live.document.name,
        list(face.versions(live)),
        "noregret",
        model_tensors.inputs_of(model),
        model_tensors.outputs_of(model),
    )


def check_ready(process: Process) -> None:
    """Raises Problem 503 where this process can't serve: as `/readyz`, which looks at more."""
    if not process.store.loaded:
        raise problems.unavailable("no snapshot was ever read", retry_after=1)
    missing = process.store.champions_not_loaded()
    if missing:
        raise problems.unavailable(f"champions are not loaded: {'; '.join(missing.values())}"[:500], retry_after=1)


def check_model_ready(live: LiveEndpoint, version: str | None) -> None:
    """Raises Problem 503 where the model is not loaded, 404 where there is no such version."""
    model = live.champion if version is None else face.version(live, version)
    if model.runtime is None:
        raise problems.unavailable(f"{model.model.model} is not loaded: {model.problem}", retry_after=1)


def infer(process: Process, live: LiveEndpoint, version: str | None, asked: Asked) -> Answered:
    """Predict by whose turn it is, and record the decision; with a `version` by that, and record
    nothing. Raises Problem."""
    model = live.champion if version is None else face.version(live, version)
    model_tensors.check_outputs(model.model, asked.outputs)
    rows = model_tensors.rows_of(live.champion.model, asked.tensors)
    if version is not None:
        return _by_version(process, live, model, rows, asked.outputs)
    request = _request(asked.parameters, rows)
    document = face.predict(process, live, request).document
    parameters = {name: value for name in _TOLD if (value := getattr(document, name)) is not None}
    return Answered(
        document.model.partition("@")[2],
        parameters,
        model_tensors.tensors_of(live.champion.model, document.outputs, asked.outputs),
    )


def _by_version(process: Process, live: LiveEndpoint, model: LiveModel, rows: Rows, outputs: Sequence[str]) -> Answered:
    answer = face.predict_with(process, live, model, rows)
    parameters: dict[str, str | bool | int | float] = {"model": model.model.model, "learnable": False}
    return Answered(
        model.model.model.partition("@")[2], parameters, model_tensors.tensors_of(model.model, answer, outputs)
    )


def _request(parameters: Mapping[str, Any], rows: Rows) -> RowsRequest:
    """predict's request of an inference's parameters; those that are not ours are passed over."""
    if not parameters:
        return RowsRequest(inputs=rows)
    fields: dict[str, Any] = {name: parameters[name] for name in _TAKEN if name in parameters}
    context = {name.removeprefix(_CONTEXT): value for name, value in parameters.items() if name.startswith(_CONTEXT)}
    if context:
        fields["context"] = context
    excluded = parameters.get("exclude")
    if excluded is not None:  # no parameter is a list
        fields["exclude"] = excluded.split(",") if isinstance(excluded, str) else excluded
    decided = bodies.convert(fields, DecideRequest, "parameters.{}".format)
    return RowsRequest(inputs=rows, **msgspec.structs.asdict(decided))
