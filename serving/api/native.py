"""Noregret's own protocol: predict, decide, feedback. Plain Django views; what they do is in serving.deciding and serving.feedback."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from msgspec import UNSET, Meta, Struct, UnsetType

from bandits.context import ContextInvalid
from serving import problems
from serving.deciding import Decision, ModelFailed, decide
from serving.feedback import MAX_BATCH, Feedback, Result, record_rewards
from serving.ledger.rewards import LedgerUnavailable
from serving.live import LiveEndpoint
from serving.process import Process, process
from serving.runtimes.rows import RowsInvalid
from serving.snapshot import Key

from . import bodies
from .keys import authorize

Text256 = Annotated[str, Meta(min_length=1, max_length=256)]
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float
Context = dict[str, str | Number | bool | None]


class DecideRequest(Struct, forbid_unknown_fields=True):
    """Body of decide."""

    unit: Text256 | UnsetType | None = UNSET
    context: Context | UnsetType | None = UNSET
    request_id: Text256 | UnsetType | None = UNSET


class PredictRequest(DecideRequest, forbid_unknown_fields=True, kw_only=True):
    """Body of predict."""

    inputs: Annotated[list[list[float] | dict[str, float]], Meta(min_length=1)]


class DecisionResponse(Struct):
    """What predict and decide answer alike."""

    decision_id: str
    endpoint: str
    experiment: str | None
    arm: str | None
    model: str
    strategy: str
    propensity: float
    policy_version: int
    learnable: bool
    stale: bool
    fallback_reason: str | None


class DecideResponse(DecisionResponse):
    """Answer of decide."""

    payload: Any


class PredictResponse(DecisionResponse):
    """Answer of predict."""

    outputs: Annotated[
        dict[str, list[Any]],
        Meta(
            description="Under each output's name a value a row. Of a model with several outputs, a row's `predict` is a list with "
            "a value an output, and its `predict_proba` a list with an output's probabilities of its classes each."
        ),
    ]


Metric = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\Z")]
Time = Annotated[datetime, Meta(tz=True)]


class FeedbackRequest(Struct, forbid_unknown_fields=True):
    """Body of feedback on one decision, and each item of a batch."""

    decision_id: str
    value: float | bool
    metric: Metric | UnsetType | None = UNSET
    occurred_at: Time | UnsetType | None = UNSET


class FeedbackBatchRequest(Struct, forbid_unknown_fields=True):
    """Body of feedback on many decisions."""

    feedback: Annotated[list[FeedbackRequest], Meta(min_length=1, max_length=MAX_BATCH)]


class _FeedbackBody(Struct, forbid_unknown_fields=True):
    """Either form, as it is decoded. A batch's items are checked one by one, so that one wrong item spoils no other."""

    decision_id: str | UnsetType = UNSET
    value: float | bool | UnsetType = UNSET
    metric: Metric | UnsetType | None = UNSET
    occurred_at: Time | UnsetType | None = UNSET
    feedback: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BATCH)] | UnsetType = UNSET


_decide_decoder = msgspec.json.Decoder(DecideRequest)
_predict_decoder = msgspec.json.Decoder(PredictRequest)
_feedback_decoder = msgspec.json.Decoder(_FeedbackBody)
_item_decoder = msgspec.json.Decoder(FeedbackRequest)
_encode = msgspec.json.Encoder().encode

View = Callable[..., HttpResponse]


def serving_view(view: View) -> View:
    """A POST view whose Problems become answers, and whose surprises become a 500 without internals."""

    @csrf_exempt  # keys are sent by hand, never by a browser on its own
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            if request.method != "POST":
                raise problems.method_not_allowed(["POST"])
            return view(request, *args, **kwargs)
        except problems.Problem as problem:
            if problem.status not in {401, 405}:  # these are told to anybody, and nobody's body is read for them
                bodies.drain(request, settings.SERVING_BODY_LIMIT)
            return problems.response(problem)
        except msgspec.ValidationError as error:
            return problems.response(problems.invalid_fields([bodies.field_error(str(error))]))

    return wrapped


def _json(body: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(_encode(body), content_type="application/json", status=status)


def _endpoint(parts: Process, key: Key, name: str) -> LiveEndpoint:
    live = parts.store.endpoint(name)
    if live is None or (key.endpoints is not None and name not in key.endpoints):
        raise problems.not_found(f"there is no endpoint {name}")
    return live


def _count_keys(body: DecideRequest) -> int:
    count = (body.unit is not UNSET) + (body.context is not UNSET) + (body.request_id is not UNSET)
    if body.context:
        count += len(body.context)
    return count


def _count_predict_keys(body: PredictRequest) -> int:
    return 1 + _count_keys(body) + sum(len(row) for row in body.inputs if isinstance(row, dict))


def _count_feedback_keys(body: _FeedbackBody) -> int:
    if body.feedback is not UNSET:
        return bodies.UNCOUNTED
    fields = (body.decision_id, body.value, body.metric, body.occurred_at)
    return sum(field is not UNSET for field in fields)


def _or_none(value: Any) -> Any:
    return None if value is UNSET else value


def _decide(parts: Process, live: LiveEndpoint, body: DecideRequest, inputs: list[Any] | None) -> Decision:
    try:
        return decide(
            parts,
            live,
            inputs=inputs,
            unit=_or_none(body.unit),
            context=_or_none(body.context),
            request_id=_or_none(body.request_id),
        )
    except RowsInvalid as error:
        raise problems.invalid_fields(error.errors) from error
    except ContextInvalid as error:
        raise problems.invalid_fields([{"field": f"context.{error.field}", "message": error.message}]) from error
    except ModelFailed as error:
        raise problems.unavailable(f"the champion could not answer: {error}", retry_after=1) from error


def _common(made: Decision) -> tuple[str, str, str | None, str | None, str, str, float, int, bool, bool, str | None]:
    """The fields of DecisionResponse, in its order."""
    return (
        made.decision_id,
        made.endpoint,
        made.experiment,
        made.arm,
        made.model,
        made.strategy,
        made.propensity,
        made.policy_version,
        made.learnable,
        made.stale,
        made.fallback_reason,
    )


def _timing(response: HttpResponse, decision: Decision) -> HttpResponse:
    response["Server-Timing"] = (
        f"route;dur={decision.route_seconds * 1000:.3f}, predict;dur={decision.predict_seconds * 1000:.3f}, "
        f"record;dur={decision.record_seconds * 1000:.3f}"
    )
    return response


@serving_view
def predict(request: HttpRequest, endpoint: str) -> HttpResponse:
    """POST /api/v1/endpoints/{endpoint}/predict"""
    parts = process()
    live = _endpoint(parts, authorize(parts, request, "predict"), endpoint)
    body = bodies.decode(bodies.read(request), _predict_decoder, _count_predict_keys)
    made = _decide(parts, live, body, body.inputs)
    return _timing(_json(PredictResponse(*_common(made), made.outputs)), made)


@serving_view
def decide_view(request: HttpRequest, endpoint: str) -> HttpResponse:
    """POST /api/v1/endpoints/{endpoint}/decide"""
    parts = process()
    live = _endpoint(parts, authorize(parts, request, "predict"), endpoint)
    body = bodies.decode(bodies.read(request), _decide_decoder, _count_keys)
    made = _decide(parts, live, body, None)
    return _timing(_json(DecideResponse(*_common(made), made.payload)), made)


@serving_view
def feedback(request: HttpRequest) -> HttpResponse:
    """POST /api/v1/feedback: one, or a batch under the key `feedback`."""
    parts = process()
    key = authorize(parts, request, "feedback")
    body = bodies.decode(bodies.read(request), _feedback_decoder, _count_feedback_keys)
    if body.feedback is not UNSET:
        return _feedback_batch(parts, key, body, body.feedback)
    if body.decision_id is UNSET or body.value is UNSET:
        missing = [name for name in ("decision_id", "value") if getattr(body, name) is UNSET]
        raise problems.invalid_fields([{"field": name, "message": "required"} for name in missing])
    item = _feedback(body.decision_id, body.value, body.metric, body.occurred_at)
    result = _recorded(parts, [item], key)[0]
    if result.status in {"recorded", "late"}:
        return _json({"status": result.status}, status=202)
    if result.status == "duplicate":
        return _json({"status": "duplicate"})
    raise _problem(result)


def _feedback_batch(parts: Process, key: Key, body: _FeedbackBody, items: list[msgspec.Raw]) -> HttpResponse:
    beside = [name for name in ("decision_id", "value", "metric", "occurred_at") if getattr(body, name) is not UNSET]
    if beside:
        raise problems.invalid_fields([{"field": name, "message": "not beside `feedback`"} for name in beside])
    answers: list[dict[str, Any]] = [{} for _ in items]
    good: list[Feedback] = []
    places: list[int] = []
    for i, raw in enumerate(items):
        try:
            item = _item_decoder.decode(raw)
            good.append(_feedback(item.decision_id, item.value, item.metric, item.occurred_at))
        except msgspec.ValidationError as invalid:
            answers[i] = {"status": "invalid", "error": bodies.field_error(str(invalid))}
        else:
            places.append(i)
    for i, result in zip(places, _recorded(parts, good, key), strict=True):
        error = None if result.problem is None else {"field": result.field or "value", "message": result.problem}
        answers[i] = {"status": result.status, "error": error}
    return _json({"results": answers}, status=207)


def _feedback(
    decision_id: str, value: float | bool, metric: str | UnsetType | None, occurred_at: datetime | UnsetType | None
) -> Feedback:
    at = _or_none(occurred_at)
    if at is not None:
        try:
            at = at.astimezone(UTC)
        except OverflowError as error:
            raise msgspec.ValidationError("Out of range - at `$.occurred_at`") from error
    return Feedback(decision_id, value, _or_none(metric), at)


def _recorded(parts: Process, items: list[Feedback], key: Key) -> list[Result]:
    try:
        return record_rewards(parts, items, key)
    except LedgerUnavailable as error:
        raise problems.unavailable("the ledger did not take the feedback: send it again", retry_after=2) from error


def _problem(result: Result) -> problems.Problem:
    detail = result.problem or ""
    if result.status == "unknown":
        return problems.not_found(detail)
    if result.status in {"conflict", "not_learnable"}:
        return problems.conflict(detail)
    return problems.invalid_fields([{"field": result.field or "value", "message": detail}])
