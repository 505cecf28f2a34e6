"""Each call of the HTTP API as a value: what is sent, and how its answer is read. Both clients send
these."""

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from .documents import ActivationResult, Choice, Column, FeedbackResult, Job, Model, Prediction, PredictionResult
from .errors import NoregretError, problem_of
from .event_fields import check_characters, is_metric
from .retrying import Repeats
from .reward_values import MAX_VALUE
from .rows import Row, rows_of
from .transport import Answer

T = TypeVar("T")
Context = Mapping[str, str | float | bool | None]

MOST_FEEDBACK = 1000
"""Items that the platform takes in one request."""

MOST_PREDICTIONS = 100
"""Requests that the platform takes in one call."""

OF_THE_BODY = frozenset({400, 413, 422})
"""Refusals that another body may not get: for one item of it the platform may refuse a whole one,
and by halves that is found."""

_encode = msgspec.json.Encoder().encode


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a decision went. `metric` defaults to the experiment's reward."""

    decision_id: str
    value: float | bool
    metric: str | None = None
    occurred_at: datetime | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request of many; `inputs` are rows as predict takes them. The platform decides once
    under its `request_id`, however often it is sent."""

    request_id: str
    inputs: Any
    unit: str | None = None
    context: Context | None = None
    exclude: Sequence[str] = ()
    activate: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form that is a file."""

    name: str
    content: bytes
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and `read`, which makes its answer's value. `body` is JSON; with `files` a form is
    sent, `form` being its texts."""

    method: str
    path: str
    read: Callable[[Answer], T]
    body: bytes | None = None
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Part] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    repeats: Repeats = Repeats.HARMFUL
    endpoint: str | None = None
    """Which one decides, where one does."""

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """As the pool `http` sends it, with its address and key."""
        if self.files:
            parts = {name: (part.name, part.content, part.media_type) for name, part in self.files.items()}
            return http.build_request(self.method, self.path, data=dict(self.form), files=parts)
        headers = {} if self.body is None else {"Content-Type": "application/json"}
        return http.build_request(self.method, self.path, content=self.body, headers=headers, params=self.query or None)

    def value(self, answer: Answer) -> T:
        """Raises Problem."""
        if 300 <= answer.status < 400:
            where = answer.headers.get("location", "another address")
            raise NoregretError(f"{self.path} was answered by a redirect to {where}: give the address behind it")
        if answer.status >= 400:
            raise problem_of(*answer)
        try:
            return self.read(answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            said = f"{self.method} {self.path} was answered by something that is no Noregret platform: {error}"
            raise NoregretError(said) from error


_prediction = msgspec.json.Decoder(Prediction)
_choice = msgspec.json.Decoder(Choice)
_model = msgspec.json.Decoder(Model)
_job = msgspec.json.Decoder(Job)


class _Status(msgspec.Struct):
    status: str


class _FeedbackResults(msgspec.Struct):
    results: list[FeedbackResult]


class _ActivationResults(msgspec.Struct):
    results: list[ActivationResult]


class _PredictionResults(msgspec.Struct):
    results: list[PredictionResult]


_prediction_results = msgspec.json.Decoder(_PredictionResults)
_status = msgspec.json.Decoder(_Status)
_feedback_results = msgspec.json.Decoder(_FeedbackResults)
_activation_results = msgspec.json.Decoder(_ActivationResults)


def quoted(name: str) -> str:
    """A name as a step of an address."""
    return urllib.parse.quote(name, safe="")


def predict(
    endpoint: str,
    rows: Any,
    *,
    unit: str | None,
    context: Context | None,
    request_id: str,
    exclude: Sequence[str],
    activate: bool,
    repeats: Repeats,
) -> Call[Prediction]:
    body: dict[str, Any] = {"inputs": rows_of(rows)} | _asked(unit, context, request_id, exclude, activate)
    path = f"/api/v1/endpoints/{quoted(endpoint)}/predict"
    return Call(
        "POST",
        path,
        lambda r: _prediction.decode(r.content),
        _encode(body),
        repeats=_repeats(repeats, activate),
        endpoint=endpoint,
    )


def decide(
    endpoint: str,
    *,
    unit: str | None,
    context: Context | None,
    request_id: str,
    exclude: Sequence[str],
    activate: bool,
    repeats: Repeats,
) -> Call[Choice]:
    body = _asked(unit, context, request_id, exclude, activate)
    path = f"/api/v1/endpoints/{quoted(endpoint)}/decide"
    return Call(
        "POST",
        path,
        lambda r: _choice.decode(r.content),
        _encode(body),
        repeats=_repeats(repeats, activate),
        endpoint=endpoint,
    )


def request_body(request: Request | Mapping[str, object], place: int) -> bytes:
    """A request of many in JSON. Raises TypeError or ValueError for what is none, with its place
    among them."""
    if not isinstance(request, Request):
        try:
            request = Request(**dict(request))  # type: ignore[arg-type]  # what it holds is looked at below
        except TypeError as error:
            raise TypeError(f"request {place}: {error}") from None
    if not isinstance(request.request_id, str) or not request.request_id:
        raise ValueError(f"request {place}: request_id: a text was expected, by which it is decided once")
    asked = _asked(request.unit, request.context, request.request_id, request.exclude, request.activate)
    try:
        return _encode({"inputs": rows_of(request.inputs)} | asked)
    except TypeError as error:
        raise TypeError(f"request {place}: {error}") from None


def predictions(
    endpoint: str, bodies: Sequence[msgspec.Raw], remember_seconds: int | None
) -> Call[list[PredictionResult]]:
    """At most MOST_PREDICTIONS requests, each decided once."""
    body: dict[str, Any] = {"requests": bodies}
    if remember_seconds is not None:
        body["remember_seconds"] = remember_seconds
    return Call(
        "POST",
        f"/api/v1/endpoints/{quoted(endpoint)}/predictions",
        lambda r: _prediction_results.decode(r.content).results,
        _encode(body),
        repeats=Repeats.SAFE,
        endpoint=endpoint,
    )


def _repeats(wanted: Repeats, activate: bool) -> Repeats:
    """A decision that waits for its activation teaches nothing: one more that nobody saw does no
    harm."""
    return wanted if activate else Repeats.SAFE


def _asked(
    unit: str | None, context: Context | None, request_id: str, exclude: Sequence[str], activate: bool
) -> dict[str, Any]:
    """What predict and decide take alike. What is not used is left out, so that a platform that
    does not know it yet is no hindrance."""
    asked: dict[str, Any] = {"request_id": request_id}
    if unit is not None:
        asked["unit"] = unit
    if context is not None:
        asked["context"] = dict(context)
    if exclude:
        if isinstance(exclude, str):
            raise TypeError("exclude: a list of arms was expected, not a text")
        asked["exclude"] = list(exclude)
    if not activate:
        asked["activate"] = False
    return asked


def feedback_item(decision_id: str, value: float | bool, metric: str | None, occurred_at: datetime | None) -> Feedback:
    """Checked here, for what is sent later can be told nobody by an exception. Raises TypeError or
    ValueError."""
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, bool | int | float):
        raise TypeError(f"value: a number, True or False was expected, not {type(value).__name__}")
    if not -MAX_VALUE <= value <= MAX_VALUE:
        raise ValueError(f"value: a finite number between {-MAX_VALUE:g} and {MAX_VALUE:g} was expected")
    if not isinstance(decision_id, str):
        raise TypeError(f"decision_id: a text was expected, not {type(decision_id).__name__}")
    check_characters("decision_id", decision_id)
    if metric is not None and not is_metric(metric):
        raise ValueError("metric: letters, digits and ._- were expected, at most 63 of them")
    if occurred_at is not None and not isinstance(occurred_at, datetime):
        raise TypeError(f"occurred_at: a datetime with its zone was expected, not {type(occurred_at).__name__}")
    if occurred_at is not None and occurred_at.tzinfo is None:
        raise ValueError("occurred_at: a time with its zone was expected")
    try:
        at = None if occurred_at is None else occurred_at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("occurred_at: a time between the years 1 and 9999 in UTC was expected") from error
    return Feedback(decision_id, value, metric, at)


def feedback(item: Feedback) -> Call[str]:
    """One piece; its status is `recorded`, `duplicate` or `late`."""
    return Call(
        "POST", "/api/v1/feedback", lambda r: _status.decode(r.content).status, _encode(item), repeats=Repeats.SAFE
    )


def feedback_batch(items: Sequence[Feedback]) -> Call[list[FeedbackResult]]:
    """At most MOST_FEEDBACK pieces, in one transaction."""
    return Call(
        "POST",
        "/api/v1/feedback",
        lambda r: _feedback_results.decode(r.content).results,
        _encode({"feedback": items}),
        repeats=Repeats.SAFE,
    )


def activate(decision_ids: Sequence[str]) -> Call[list[ActivationResult]]:
    return Call(
        "POST",
        "/api/v1/activate",
        lambda r: _activation_results.decode(r.content).results,
        _encode({"decision_ids": list(decision_ids)}),
        repeats=Repeats.SAFE,
    )


def register_artifact(
    name: str,
    version: str,
    framework: str,
    artifact: bytes,
    sample: Sequence[Row] | None,
    columns: Sequence[Column] | None,
    expected: Mapping[str, list[Any]] | None,
) -> Call[Model | Job]:
    """The same version with the same bytes is the same registration. `expected`: what the original
    of a converted model answered on the sample, by output."""
    files = {"artifact": Part(f"{name}-{version}.{framework}", artifact)}
    # As a file, for texts of a form are limited to a few MiB.
    if sample:
        files["sample"] = Part("sample.json", _encode(sample), "application/json")
    if columns:
        files["columns"] = Part("columns.json", _encode(columns), "application/json")
    if expected:
        files["expected"] = Part("expected.json", _encode(expected), "application/json")
    form = {"name": name, "version": version, "framework": framework}
    return Call("POST", "/api/v1/models", _registered, form=form, files=files, repeats=Repeats.SAFE)


def register_definition(definition: Mapping[str, Any]) -> Call[Model | Job]:
    """A model without an artefact, as `static`, `python` and `http` are."""
    return Call("POST", "/api/v1/models", _registered, _encode(definition), repeats=Repeats.SAFE)


def job(job_id: str) -> Call[Job]:
    return Call("GET", f"/api/v1/jobs/{quoted(job_id)}", lambda r: _job.decode(r.content), repeats=Repeats.SAFE)


def _registered(answer: Answer) -> Model | Job:
    return (_job if answer.status == 202 else _model).decode(answer.content)


def managing(method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Call[Any]:
    """Any other call: its answer's JSON as it is."""
    repeats = Repeats.SAFE if method in ("GET", "PATCH", "PUT", "DELETE") else Repeats.HARMFUL
    encoded = None if body is None else _encode(body)
    return Call(method, path, _json, encoded, query=query or {}, repeats=repeats)


def _json(answer: Answer) -> Any:
    return msgspec.json.decode(answer.content) if answer.content else None
