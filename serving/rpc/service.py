"""The Open Inference Protocol (v2) over gRPC: its messages to what `serving.api.open_inference`
takes, and back.

Contents are read typed or raw, and answered raw, for that is all that some clients read. The key
comes in the call's metadata, by the names that it has over HTTP.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any

from serving import problems
from serving.api import face, tensors
from serving.api import open_inference as protocol
from serving.api.keys import presented_by_any_client
from serving.api.tensors import Tensor
from serving.live import LiveEndpoint
from serving.open_inference_messages import CLASSES
from serving.problems import Problem
from serving.process import process

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where typed contents of a datatype are."""

Metadata = Sequence[tuple[str, str | bytes]]


def server_live(request: Any, metadata: Metadata) -> Any:
    return CLASSES["ServerLiveResponse"](live=True)


def server_ready(request: Any, metadata: Metadata) -> Any:
    try:
        protocol.check_ready(process())
    except Problem:
        return CLASSES["ServerReadyResponse"](ready=False)
    return CLASSES["ServerReadyResponse"](ready=True)


def server_metadata(request: Any, metadata: Metadata) -> Any:
    return CLASSES["ServerMetadataResponse"](name="noregret", version=version_of("noregret"))


def model_ready(request: Any, metadata: Metadata) -> Any:
    """Raises Problem 401, 403 or 404."""
    live = _admit(metadata, request.name)
    try:
        protocol.check_model_ready(live, request.version or None)
    except Problem as problem:
        if problem.status != 503:
            raise
        return CLASSES["ModelReadyResponse"](ready=False)
    return CLASSES["ModelReadyResponse"](ready=True)


def model_metadata(request: Any, metadata: Metadata) -> Any:
    """Raises Problem 401, 403 or 404."""
    told = protocol.metadata(_admit(metadata, request.name), request.version or None)
    answer = CLASSES["ModelMetadataResponse"](name=told.name, versions=told.versions, platform=told.platform)
    for described in told.inputs:
        answer.inputs.add(name=described.name, datatype=described.datatype, shape=described.shape)
    for described in told.outputs:
        answer.outputs.add(name=described.name, datatype=described.datatype, shape=described.shape)
    return answer


def model_infer(request: Any, metadata: Metadata) -> Any:
    """Raises Problem."""
    live = _admit(metadata, request.model_name)
    tensors.check_number(len(request.inputs))
    asked = protocol.Asked(_tensors(request), _values(request.parameters), [output.name for output in request.outputs])
    answered = protocol.infer(process(), live, request.model_version or None, asked)
    answer = CLASSES["ModelInferResponse"](model_name=live.document.name, model_version=answered.version, id=request.id)
    for name, value in answered.parameters.items():
        _put(answer.parameters[name], value)
    for tensor in answered.tensors:
        answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        answer.raw_output_contents.append(tensors.to_bytes(tensor))
    return answer


METHODS = {
    "ServerLive": server_live,
    "ServerReady": server_ready,
    "ServerMetadata": server_metadata,
    "ModelReady": model_ready,
    "ModelMetadata": model_metadata,
    "ModelInfer": model_infer,
}


def _admit(metadata: Metadata, endpoint: str) -> LiveEndpoint:
    environ = {
        f"HTTP_{name.upper().replace('-', '_')}": value
        for name, value in metadata
        if name in ("authorization", "x-api-key") and isinstance(value, str)
    }
    return face.admit(process(), presented_by_any_client(environ), endpoint)


def _tensors(request: Any) -> list[Tensor]:
    """Of raw contents there are as many as tensors, or none."""
    raw = request.raw_input_contents
    if not raw:
        return [_typed(sent) for sent in request.inputs]
    if len(raw) != len(request.inputs):
        message = f"{len(raw)} where there are {len(request.inputs)} inputs"
        raise problems.invalid_fields([{"field": "raw_input_contents", "message": message}])
    made: list[Tensor] = []
    for sent, content in zip(request.inputs, raw, strict=True):
        if sent.HasField("contents"):
            raise tensors.invalid(sent.name, "typed contents beside raw ones: one of the two was expected")
        made.append(tensors.from_bytes(sent.name, sent.datatype, list(sent.shape), memoryview(content)))
    return made


def _typed(sent: Any) -> Tensor:
    field = _CONTENTS.get(sent.datatype)
    if field is None:
        tensors.dtype_of(sent.name, sent.datatype)
        raise tensors.invalid(sent.name, f"{sent.datatype} has no typed contents: raw ones were expected")
    values = list(getattr(sent.contents, field))
    if sent.datatype == "BYTES":
        try:
            values = [value.decode() for value in values]
        except UnicodeDecodeError as error:
            raise tensors.invalid(sent.name, "an element is no text in UTF-8") from error
    return tensors.from_values(sent.name, sent.datatype, list(sent.shape), values)


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(parameter, field)
        for name, parameter in parameters.items()
        if (field := parameter.WhichOneof("parameter_choice")) is not None
    }


def _put(parameter: Any, value: str | bool | int | float) -> None:
    match value:
        case bool():
            parameter.bool_param = value
        case int():
            parameter.int64_param = value
        case float():
            parameter.double_param = value
        case str():
            parameter.string_param = value
