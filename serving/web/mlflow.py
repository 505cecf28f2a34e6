"""MLflow's scoring protocol, an endpoint in the place of a model server: `/invocations`, `/ping`,
`/health` and `/version`, below `/endpoints/{endpoint}`.

Rows come as a DataFrame (split, or a record a row), as TensorFlow Serving's `instances`, as
`inputs`, or as CSV. Unit and context are in `params`, where MLflow has parameters of a call.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from itertools import zip_longest
from math import isinf, isnan
from typing import Any, NoReturn

import msgspec
from falcon import Request, Response
from msgspec import UNSET, Struct, UnsetType

from serving import problems
from serving.api import bodies, face
from serving.api.calls import JSON, Call, declared
from serving.api.documents import DecideRequest, PredictRequest
from serving.api.keys import presented_by_any_client
from serving.problems import Problem
from serving.process import process
from serving.snapshot import Model

from .native import Resource
from .refusals import Refusal
from .route import Area, Route
from .sent_bodies import read_any

CSV = "text/csv"
TEXT = "text/plain"
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_OURS = ("unit", "context", "request_id", "exclude", "activate")
"""Of a call's `params`, those that are predict's fields of the same name."""
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    503: "TEMPORARILY_UNAVAILABLE",
}
_encode = msgspec.json.Encoder().encode


class Split(Struct):
    """A DataFrame as pandas splits it."""

    data: list[list[Any]]
    columns: list[str | int] | UnsetType = UNSET


class Invocation(Struct):
    """Body of invocations: one of the four forms of rows."""

    dataframe_split: Split | UnsetType = UNSET
    dataframe_records: list[dict[str, Any]] | UnsetType = UNSET
    instances: list[Any] | UnsetType = UNSET
    inputs: list[Any] | dict[str, Any] | UnsetType = UNSET
    params: dict[str, Any] | UnsetType | None = UNSET


class Predictions(Struct):
    """Answer of invocations."""

    predictions: list[Any]
    decision_id: str
    experiment: str | None
    arm: str | None
    model: str
    propensity: float
    learnable: bool
    stale: bool
    fallback_reason: str | None


class InvocationRefusal(Struct):
    """What a refusal is: MLflow's two members, and a problem document's."""

    error_code: str
    message: str
    type: str
    title: str
    status: int
    detail: str


def tell(environ: Mapping[str, Any], problem: Problem) -> Refusal:
    """`error_code` and `message`, which MLflow's clients show, and a problem's members beside
    them."""
    code = _CODES.get(problem.status, "BAD_REQUEST" if problem.status < 500 else "INTERNAL_ERROR")
    body = _encode({"error_code": code, "message": problem.detail, **problem.document()})
    return Refusal(problem.status, JSON, body, problem.headers)


class Invocations(Resource):
    """/endpoints/{endpoint}/invocations"""

    @declared(
        Call(
            "Route a request to an arm and predict, as MLflow's clients ask",
            {200: Predictions},
            bodies={JSON: Invocation, CSV: {"type": "string"}},
            problems=(404,),
            name="mlflow_invocations",
            refusal=InvocationRefusal,
        )
    )
    def on_post(self, request: Request, response: Response, endpoint: str) -> None:
        parts = process()
        live = face.admit(parts, presented_by_any_client(request.env), endpoint)
        media_type = request.env.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        body = read_any(request.env, parts.body_limit)
        model = live.champion.model
        asked = _of_csv(body, model) if media_type == CSV else _of_json(body, model)
        told = face.predict(parts, live, asked).document
        response.data = _encode(
            Predictions(
                told.outputs["predict"],
                told.decision_id,
                told.experiment,
                told.arm,
                told.model,
                told.propensity,
                told.learnable,
                told.stale,
                told.fallback_reason,
            )
        )


class Ping(Resource):
    """/endpoints/{endpoint}/ping and /health"""

    @declared(Call("Is an endpoint's model loaded?", {200: str}, problems=(404,), name="mlflow_ping", media_type=TEXT))
    def on_get(self, request: Request, response: Response, endpoint: str) -> None:
        live = face.admit(process(), presented_by_any_client(request.env), endpoint)
        if live.champion.runtime is None:
            raise problems.unavailable(f"{live.champion.model.model} is not loaded", retry_after=1)
        response.content_type = TEXT
        response.data = b"\n"


class Version(Resource):
    """/endpoints/{endpoint}/version"""

    @declared(Call("The service's version", {200: str}, problems=(404,), name="mlflow_version", media_type=TEXT))
    def on_get(self, request: Request, response: Response, endpoint: str) -> None:
        face.admit(process(), presented_by_any_client(request.env), endpoint)
        response.content_type = TEXT
        response.text = version_of("noregret")


def _of_json(body: bytes, model: Model) -> PredictRequest:
    sent = _decoded(body)
    given = [form for form in _FORMS if getattr(sent, form) is not UNSET]
    if len(given) != 1:
        message = f"{len(given)} of {', '.join(_FORMS)} where one was expected"
        raise problems.invalid_fields([{"field": "", "message": message}])
    if sent.dataframe_split is not UNSET:
        rows = _of_split(sent.dataframe_split, model)
    elif sent.dataframe_records is not UNSET:
        rows = list(sent.dataframe_records)
    elif sent.instances is not UNSET:
        rows = _of_list("instances", sent.instances, model)
    elif isinstance(sent.inputs, dict):
        rows = _of_columns(sent.inputs)
    else:
        assert sent.inputs is not UNSET
        rows = _of_list("inputs", sent.inputs, model)
    if not rows:
        raise problems.invalid_fields([{"field": given[0], "message": "at least one row was expected"}])
    params = {name: value for name, value in (sent.params or {}).items() if name in _OURS}
    decided = bodies.convert(params, DecideRequest, "params.{}".format)
    return PredictRequest(inputs=rows, **msgspec.structs.asdict(decided))


def _decoded(body: bytes) -> Invocation:
    """Python's own JSON has NaN, and pandas a gap for it: MLflow's clients send it as it is."""
    try:
        if b"NaN" not in body:
            return msgspec.json.decode(body, type=Invocation)
        return msgspec.convert(json.loads(body, parse_constant=_gap), Invocation)
    except msgspec.ValidationError as invalid:
        raise problems.invalid_fields([bodies.field_error(str(invalid))]) from invalid
    except (ValueError, RecursionError) as error:
        raise problems.invalid_json(str(error)) from error


def _gap(constant: str) -> None:
    if constant != "NaN":
        raise ValueError(f"{constant} is no value that a row may have")


def _of_split(split: Split, model: Model) -> list[Any]:
    """By the names of its columns where both know names; else by position."""
    columns = split.columns
    names = _names(model)
    if columns is UNSET or names is None or columns == list(range(len(columns))):
        return list(split.data)
    told = [str(column) for column in columns]
    if len(set(told)) < len(told):
        raise problems.invalid_fields([{"field": "dataframe_split.columns", "message": "two columns have one name"}])
    for i, row in enumerate(split.data):
        if len(row) != len(told):
            message = f"{len(row)} values where there are {len(told)} columns"
            raise problems.invalid_fields([{"field": f"dataframe_split.data[{i}]", "message": message}])
    if told == names:
        return list(split.data)
    return [dict(zip(told, row, strict=True)) for row in split.data]


def _names(model: Model) -> list[str] | None:
    return model.feature_names if model.columns is None else [column.name for column in model.columns]


def _of_columns(columns: Mapping[str, Any]) -> list[Any]:
    """A list a column, each of one length; what stands in lists of one is taken out."""
    if not all(isinstance(values, list) for values in columns.values()):
        _refuse_columns("a list of values a column was expected")
    if len({len(values) for values in columns.values()}) > 1:
        _refuse_columns("the columns have different lengths")
    flat = [[_alone(value) for value in values] for values in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*flat, strict=True)]


def _refuse_columns(message: str) -> NoReturn:
    raise problems.invalid_fields([{"field": "inputs", "message": message}])


def _alone(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _of_list(field: str, rows: Sequence[Any], model: Model) -> list[Any]:
    """Rows as lists or objects; of a model with one feature also its values."""
    if model.features == 1 and not any(isinstance(row, list | dict) for row in rows):
        return [[row] for row in rows]
    for i, row in enumerate(rows):
        if not isinstance(row, list | dict):
            message = "a row was expected, as a list or as an object"
            raise problems.invalid_fields([{"field": f"{field}[{i}]", "message": message}])
    return list(rows)


def _of_csv(body: bytes, model: Model) -> PredictRequest:
    """With a line of names, as pandas writes it. An empty field is null."""
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        names = next(lines, [])
        kinds = _kinds(model, names)
        data = [[_value(text, kind) for text, kind in zip_longest(line, kinds[: len(line)])] for line in lines if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise problems.invalid_fields([{"field": "", "message": f"no CSV in UTF-8: {error}"}]) from error
    if not data:
        raise problems.invalid_fields([{"field": "", "message": "a line of names and a line a row were expected"}])
    return PredictRequest(inputs=_of_split(Split(data, list(names)), model))


def _kinds(model: Model, names: Sequence[str]) -> list[str]:
    """What each field of a line is to be: as the column of its name is, else a number."""
    by_name = {column.name: column.type for column in model.columns or ()}
    return [by_name.get(name, "number") for name in names]


def _value(text: str, kind: str | None) -> Any:
    """A field of CSV as JSON would have it; what is no `kind` stays text, and is refused by its
    place."""
    if not text:
        return None
    if kind == "string":
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if "_" in text or not text.isascii():  # numbers to Python alone
        return text
    try:
        number = int(text) if kind == "integer" else float(text)
    except ValueError:
        return text
    if isnan(number):
        return None
    return text if isinf(number) else number


AREA = Area("/endpoints", tell)

_ENDPOINT = "/endpoints/{endpoint}"
ROUTES = (
    Route(f"{_ENDPOINT}/invocations", Invocations(), ("POST",), tell=tell),
    Route(f"{_ENDPOINT}/ping", Ping(), ("GET",), tell=tell),
    Route(f"{_ENDPOINT}/health", Ping(), ("GET",), tell=tell),
    Route(f"{_ENDPOINT}/version", Version(), ("GET",), tell=tell),
)
