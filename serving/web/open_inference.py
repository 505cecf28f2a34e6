"""The Open Inference Protocol (v2) over HTTP, with its extension for binary tensors.

A request's head and its tensors' contents may come in one body: `Inference-Header-Content-Length`
says where the JSON ends, and each tensor how many bytes are its own.
"""

from collections.abc import Mapping
from importlib.metadata import version as version_of
from typing import Any

import msgspec
from falcon import Request, Response
from msgspec import UNSET, Struct, UnsetType

from serving import problems
from serving.api import face, tensors
from serving.api import open_inference as protocol
from serving.api.calls import JSON, Call, declared
from serving.api.keys import presented_by_any_client
from serving.api.tensors import Tensor
from serving.live import LiveEndpoint
from serving.problems import Problem
from serving.process import Process, process

from .native import Resource
from .refusals import Refusal
from .route import Area, Route
from .sent_bodies import read_any

BINARY = "application/octet-stream"
_JSON_BYTES = "Inference-Header-Content-Length"
_encode = msgspec.json.Encoder().encode


class Server(Struct):
    """What is told of the service."""

    name: str
    version: str
    extensions: list[str]


class Live(Struct):
    """The process answers."""

    live: bool


class Ready(Struct):
    """This process can serve."""

    ready: bool


class ModelReady(Struct):
    """The model is loaded."""

    name: str
    ready: bool


class TensorMetadata(Struct):
    """A tensor that a model takes or gives; -1 stands for any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Struct):
    """What is told of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferInput(Struct):
    """A tensor of a request. Its data stands here, or behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | UnsetType | None = UNSET
    data: list[Any] | UnsetType = UNSET


class InferRequestedOutput(Struct):
    """An output that is wanted, and whether as binary."""

    name: str
    parameters: dict[str, Any] | UnsetType | None = UNSET


class InferRequest(Struct):
    """Body of infer."""

    inputs: list[InferInput]
    id: str | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType | None = UNSET
    outputs: list[InferRequestedOutput] | UnsetType | None = UNSET


class InferOutput(Struct, omit_defaults=True):
    """A tensor of an answer."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | UnsetType = UNSET
    data: list[Any] | UnsetType = UNSET


class InferResponse(Struct, omit_defaults=True):
    """Answer of infer."""

    model_name: str
    model_version: str
    outputs: list[InferOutput]
    id: str | UnsetType | None = UNSET
    parameters: dict[str, str | bool | int | float] | UnsetType = UNSET


class InferRefusal(Struct):
    """What a refusal is: `error` is the protocol's, the rest a problem document's."""

    error: str
    type: str
    title: str
    status: int
    detail: str


_request_decoder = msgspec.json.Decoder(InferRequest)


def tell(environ: Mapping[str, Any], problem: Problem) -> Refusal:
    """`error`, which this protocol's clients read, and a problem's members beside it."""
    body = _encode({"error": problem.detail, **problem.document()})
    return Refusal(problem.status, JSON, body, problem.headers)


class OfServer(Resource):
    """/v2"""

    @declared(Call("The service, to clients of the Open Inference Protocol", {200: Server}, name="v2", open=True))
    def on_get(self, request: Request, response: Response) -> None:
        response.data = _encode(Server("noregret", version_of("noregret"), ["binary_tensor_data"]))


class ServerLive(Resource):
    """/v2/health/live"""

    @declared(Call("Does the process answer?", {200: Live}, name="v2_live", open=True))
    def on_get(self, request: Request, response: Response) -> None:
        response.data = _encode(Live(True))


class ServerReady(Resource):
    """/v2/health/ready"""

    @declared(Call("Can this process serve?", {200: Ready, 503: InferRefusal}, name="v2_ready", open=True))
    def on_get(self, request: Request, response: Response) -> None:
        protocol.check_ready(process())
        response.data = _encode(Ready(True))


class OfModel(Resource):
    """/v2/models/{endpoint}, and of one version"""

    @declared(
        Call("An endpoint's tensors", {200: ModelMetadata}, problems=(404,), name="v2_model", refusal=InferRefusal)
    )
    def on_get(self, request: Request, response: Response, endpoint: str, version: str | None = None) -> None:
        live = face.admit(process(), presented_by_any_client(request.env), endpoint)
        told = protocol.metadata(live, version)
        response.data = _encode(
            ModelMetadata(
                told.name,
                told.versions,
                told.platform,
                [TensorMetadata(*described) for described in told.inputs],
                [TensorMetadata(*described) for described in told.outputs],
            )
        )


class OfModelReady(Resource):
    """/v2/models/{endpoint}/ready, and of one version"""

    @declared(
        Call(
            "Is an endpoint's model loaded?",
            {200: ModelReady},
            problems=(404,),
            name="v2_model_ready",
            refusal=InferRefusal,
        )
    )
    def on_get(self, request: Request, response: Response, endpoint: str, version: str | None = None) -> None:
        live = face.admit(process(), presented_by_any_client(request.env), endpoint)
        protocol.check_model_ready(live, version)
        response.data = _encode(ModelReady(endpoint, True))


class Infer(Resource):
    """/v2/models/{endpoint}/infer, and by one version"""

    @declared(
        Call(
            "Route a request to an arm and predict, as the Open Inference Protocol has it",
            {200: InferResponse},
            bodies={JSON: InferRequest},
            problems=(404,),
            name="v2_infer",
            refusal=InferRefusal,
        )
    )
    def on_post(self, request: Request, response: Response, endpoint: str, version: str | None = None) -> None:
        parts = process()
        live = face.admit(parts, presented_by_any_client(request.env), endpoint)
        body = read_any(request.env, parts.body_limit)
        _answer(response, *_infer(parts, live, version, body, request.env.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")))


def _infer(
    process: Process, live: LiveEndpoint, version: str | None, body: bytes, json_bytes: str | None
) -> tuple[InferResponse, list[bytes]]:
    """The answer, and the contents that come behind it."""
    head, rest = _parted(body, json_bytes)
    try:
        asked = _request_decoder.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # also of the wrong type
        raise problems.invalid_json(str(error)) from error
    tensors.check_number(len(asked.inputs))
    wanted = asked.outputs or []
    answered = protocol.infer(
        process,
        live,
        version,
        protocol.Asked(_tensors(asked.inputs, rest), asked.parameters or {}, [output.name for output in wanted]),
    )
    is_binary = _flag(asked.parameters, "binary_data_output")
    binary = {output.name: _flag(output.parameters, "binary_data", default=is_binary) for output in wanted}
    outputs: list[InferOutput] = []
    contents: list[bytes] = []
    for tensor in answered.tensors:
        output = InferOutput(tensor.name, list(tensor.array.shape), tensor.datatype)
        if binary.get(tensor.name, is_binary):
            contents.append(tensors.to_bytes(tensor))
            output.parameters = {"binary_data_size": len(contents[-1])}
        else:
            output.data = tensor.array.ravel().tolist()
        outputs.append(output)
    return InferResponse(live.document.name, answered.version, outputs, asked.id, answered.parameters), contents


def _answer(response: Response, document: InferResponse, contents: list[bytes]) -> None:
    head = _encode(document)
    response.data = b"".join((head, *contents))
    if contents:
        response.content_type = BINARY
        response.set_header(_JSON_BYTES, str(len(head)))


def _parted(body: bytes, json_bytes: str | None) -> tuple[memoryview, memoryview]:
    """The JSON, and what comes behind it."""
    whole = memoryview(body)
    if json_bytes is None:
        return whole, whole[len(body) :]
    if not json_bytes.isascii() or not json_bytes.isdigit() or len(json_bytes) > 12 or int(json_bytes) > len(body):
        message = f"{json_bytes[:20]!r} where a number of bytes, at most the {len(body)} of the body, was expected"
        raise problems.invalid_fields([{"field": _JSON_BYTES, "message": message}])
    return whole[: int(json_bytes)], whole[int(json_bytes) :]


def _tensors(inputs: list[InferInput], rest: memoryview) -> list[Tensor]:
    """The tensors of a request. `rest` holds the binary contents, one behind the other, and nothing
    else."""
    made: list[Tensor] = []
    at = 0
    for sent in inputs:
        size = (sent.parameters or {}).get("binary_data_size")
        if size is None:
            if sent.data is UNSET:
                raise tensors.invalid(sent.name, "neither `data` nor `binary_data_size`: one was expected")
            made.append(tensors.from_values(sent.name, sent.datatype, sent.shape, sent.data))
            continue
        if type(size) is not int or not 0 <= size <= len(rest) - at:
            raise tensors.invalid(sent.name, f"binary_data_size {size!r:.30} where {len(rest) - at} bytes are left")
        made.append(tensors.from_bytes(sent.name, sent.datatype, sent.shape, rest[at : at + size]))
        at += size
    if at != len(rest):
        message = f"{len(rest) - at} bytes come behind the contents of all tensors"
        raise problems.invalid_fields([{"field": "inputs", "message": message}])
    return made


def _flag(parameters: dict[str, Any] | UnsetType | None, name: str, default: bool = False) -> bool:
    return bool((parameters or {}).get(name, default))


AREA = Area("/v2", tell)

_MODEL = "/v2/models/{endpoint}"
_VERSION = f"{_MODEL}/versions/{{version}}"
ROUTES = (
    Route("/v2", OfServer(), ("GET",), tell=tell),
    Route("/v2/health/live", ServerLive(), ("GET",), tell=tell),
    Route("/v2/health/ready", ServerReady(), ("GET",), tell=tell),
    Route(_MODEL, OfModel(), ("GET",), tell=tell),
    Route(f"{_MODEL}/ready", OfModelReady(), ("GET",), tell=tell),
    Route(f"{_MODEL}/infer", Infer(), ("POST",), tell=tell),
    Route(_VERSION, OfModel(), ("GET",), tell=tell),
    Route(f"{_VERSION}/ready", OfModelReady(), ("GET",), tell=tell),
    Route(f"{_VERSION}/infer", Infer(), ("POST",), tell=tell),
)
