"""The OpenFeature Remote Evaluation Protocol: an endpoint is a flag, an arm its variant, and the
arm's payload the value.

Of many flags at once the decisions are made with `activate: false`: a page that asks for all of its
flags has shown none of them yet.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from falcon import HTTP_304, Request, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from serving import problems
from serving.api import bodies, face
from serving.api.calls import JSON, Call, declared
from serving.api.documents import DecideRequest, DecideResponse
from serving.api.keys import presented_by_any_client
from serving.problems import Problem
from serving.process import process

from .native import Resource
from .refusals import Refusal
from .route import Area, Route
from .sent_bodies import read_any

MOST_FLAGS = 200
"""Of one bulk evaluation: each is a decision of its own."""
_FLAGS = "/ofrep/v1/evaluate/flags"
_UNIT = "targetingKey"
_CODES = {400: "INVALID_CONTEXT", 404: "FLAG_NOT_FOUND"}
_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="sorted").encode


class EvaluationRequest(Struct):
    """Body of an evaluation. The context's `targetingKey` is the unit."""

    context: dict[str, Any] | UnsetType | None = UNSET


class Flag(Struct, omit_defaults=True):
    """A flag's evaluation. Without a value the client takes its own default."""

    key: str
    reason: str
    variant: str
    metadata: dict[str, str | bool | int | float]
    value: Any = UNSET


class Failure(Struct):
    """A flag that could not be evaluated, or any other refusal."""

    key: str
    errorCode: str  # noqa: N815 - the protocol's name
    errorDetails: str  # noqa: N815 - the protocol's name


class Flags(Struct):
    """The evaluation of every flag that a key may see."""

    flags: Annotated[list[Any], Meta(description="Of each endpoint what an evaluation of it alone would be answered.")]
    metadata: dict[str, str | bool | int | float]


_decode = msgspec.json.Decoder(EvaluationRequest).decode


def tell(environ: Mapping[str, Any], problem: Problem) -> Refusal:
    """The protocol's three members, and a problem's beside them."""
    before, _, key = environ.get("PATH_INFO", "").partition(f"{_FLAGS}/")
    key = "" if before else key  # of what is no flag
    body = _encode({**msgspec.structs.asdict(_failure(key, problem)), **problem.document()})
    return Refusal(problem.status, JSON, body, problem.headers)


def _failure(key: str, problem: Problem) -> Failure:
    code = "PARSE_ERROR" if problem.type == "/problems/invalid-json" else _CODES.get(problem.status, "GENERAL")
    return Failure(key, code, problem.detail)


class One(Resource):
    """/ofrep/v1/evaluate/flags/{endpoint}"""

    @declared(
        Call(
            "Evaluate a flag: route a request to an arm",
            {200: Flag},
            bodies={JSON: EvaluationRequest},
            problems=(404,),
            name="ofrep_flag",
            refusal=Failure,
        )
    )
    def on_post(self, request: Request, response: Response, endpoint: str) -> None:
        parts = process()
        live = face.admit(parts, presented_by_any_client(request.env), endpoint)
        context, asked = _asked(read_any(request.env, parts.body_limit))
        told = face.decide_only(parts, live, asked).document
        response.data = _encode(_flag(told))
        # For what a client keeps. No 304: this decision counts, and its id must be told.
        response.set_header("ETag", _tag(context, [told]))


class Bulk(Resource):
    """/ofrep/v1/evaluate/flags"""

    @declared(
        Call(
            "Evaluate every flag that a key may see",
            {200: Flags, 304: None},
            bodies={JSON: EvaluationRequest},
            name="ofrep_flags",
            refusal=Failure,
        )
    )
    def on_post(self, request: Request, response: Response) -> None:
        parts = process()
        lives = face.admit_all(parts, presented_by_any_client(request.env))
        if len(lives) > MOST_FLAGS:
            message = f"{len(lives)} endpoints where at most {MOST_FLAGS} are evaluated at once: limit the key to those that are shown"
            raise problems.invalid_fields([{"field": "", "message": message}])
        context, asked = _asked(read_any(request.env, parts.body_limit))
        asked.activate = False
        told: list[DecideResponse] = []
        flags: list[Flag | Failure] = []
        for live in lives:
            try:
                document = face.decide_only(parts, live, asked).document
            except Problem as problem:  # one flag's trouble is that flag's
                flags.append(_failure(live.document.name, problem))
            else:
                told.append(document)
                flags.append(_flag(document))
        tag = _tag(context, told)
        response.set_header("ETag", tag)
        if tag in _tags(request.env.get("HTTP_IF_NONE_MATCH", "")):
            # What its client has is as good; these decisions wait for ever, and teach nothing.
            response.status = HTTP_304
        else:
            response.data = _encode(Flags(flags, {}))


def _tags(text: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in text.split(",")}


def _asked(body: bytes) -> tuple[dict[str, Any], DecideRequest]:
    """The whole context, and what of it is decided by: values in lists and objects are not."""
    try:
        context = _decode(body or b"{}").context or {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # also of the wrong type
        raise problems.invalid_json(str(error)) from error
    plain = {name: value for name, value in context.items() if name != _UNIT and not isinstance(value, list | dict)}
    fields = {"unit": context.get(_UNIT) or None, "context": plain}
    decided = bodies.convert(fields, DecideRequest, lambda field: f"context.{_UNIT}" if field == "unit" else field)
    return context, decided


def _flag(told: DecideResponse) -> Flag:
    metadata: dict[str, str | bool | int | float] = {
        name: value
        for name in ("decision_id", "experiment", "model", "propensity", "policy_version", "learnable", "stale")
        if (value := getattr(told, name)) is not None
    }
    return Flag(
        told.endpoint,
        "STATIC" if told.experiment is None else "SPLIT",
        told.model if told.arm is None else told.arm,
        metadata,
        UNSET if told.payload is None else told.payload,
    )


def _tag(context: Mapping[str, Any], told: list[DecideResponse]) -> str:
    """All that the answer follows from: clients send the tag of another context, too."""
    of_arms = [[one.endpoint, one.arm, one.model, one.policy_version] for one in told]
    return f'"{hashlib.sha256(_canonical([context, of_arms])).hexdigest()[:32]}"'


AREA = Area("/ofrep", tell)
ROUTES = (
    Route(_FLAGS, Bulk(), ("POST",), tell=tell),
    Route(f"{_FLAGS}/{{endpoint}}", One(), ("POST",), tell=tell),
)
