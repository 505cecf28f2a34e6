"""The serving calls as every protocol makes them: a key's text and a body in, an answer's document
out; refusals are Problems.

No framework and no protocol enters this module. A call has two steps, so that a protocol reads the
body of nobody without a key, and shapes it by the endpoint's model where it must: `admit` (401,
403, 404), then the call itself.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from bandits.context import ContextInvalid
from serving import problems
from serving.activation import activate_decisions
from serving.answering import rows_of, serve_alone
from serving.deciding import Asked, Decision, ModelFailed, decide
from serving.feedback import Feedback, Result, record_rewards
from serving.ledger.rewards import LedgerUnavailable
from serving.live import LiveEndpoint, LiveModel
from serving.process import Process
from serving.recording import Keeper
from serving.runtimes import Outputs
from serving.runtimes.columns import Rows
from serving.runtimes.rows import RowsInvalid
from serving.snapshot import Key
from serving.times import in_utc

from . import bodies, documents
from .documents import (
    ActivateRequest,
    DecideRequest,
    DecideResponse,
    FeedbackBody,
    NumbersRequest,
    PredictRequest,
    PredictResponse,
    RowsRequest,
)
from .keys import authorize


class Predicted(NamedTuple):
    """`document` is what is answered; `decision` says also how long its parts took."""

    document: PredictResponse
    decision: Decision


class Decided(NamedTuple):
    """As Predicted, of decide."""

    document: DecideResponse
    decision: Decision


class Heard(NamedTuple):
    """What became of feedback: an HTTP status, and the document that goes with it."""

    status: int
    document: dict[str, Any]


def admit(process: Process, key_text: str | None, endpoint: str) -> LiveEndpoint:
    """The endpoint, for a key that may predict on it. Raises Problem 401, 403 or 404."""
    key = authorize(process, key_text, "predict")
    live = process.store.endpoint(endpoint)
    if live is None or (key.endpoints is not None and endpoint not in key.endpoints):
        raise problems.not_found(f"there is no endpoint {endpoint}")
    return live


def admit_all(process: Process, key_text: str | None) -> list[LiveEndpoint]:
    """Every endpoint that a key may predict on, by name. Raises Problem 401 or 403."""
    key = authorize(process, key_text, "predict")
    if key.endpoints is None:
        return sorted(process.store.endpoints(), key=lambda live: live.document.name)
    lives = (process.store.endpoint(name) for name in sorted(key.endpoints))
    return [live for live in lives if live is not None]


def admit_feedback(process: Process, key_text: str | None) -> Key:
    """The key, if it may give feedback. Raises Problem 401 or 403."""
    return authorize(process, key_text, "feedback")


def predict(
    process: Process,
    live: LiveEndpoint,
    body: bytes | PredictRequest | NumbersRequest | RowsRequest,
    keeper: Keeper | None = None,
) -> Predicted:
    """Route, predict, record, or have a `keeper` keep. Raises Problem 400 or 503."""
    request: PredictRequest | NumbersRequest | RowsRequest
    if isinstance(body, bytes):
        request = read_predict(live, body)
    else:
        _check_texts(body)
        takes_numbers = live.champion.model.columns is None
        request = _numbers(body) if takes_numbers and isinstance(body, PredictRequest) else body
    decision = _decide(process, live, request, request.inputs, keeper)
    return Predicted(PredictResponse(*_common(decision), decision.outputs), decision)


def read_predict(live: LiveEndpoint, body: bytes) -> PredictRequest | NumbersRequest:
    """predict's request, as the endpoint's champion takes it. Raises Problem 400."""
    takes_numbers = live.champion.model.columns is None
    return documents.PREDICT.decode(body) if takes_numbers else documents.PREDICT_COLUMNS.decode(body)


def versions(live: LiveEndpoint) -> dict[str, LiveModel]:
    """The model versions that an endpoint serves, the champion first, by what they are called
    there: the version, or `name@version` where two models have the same."""
    models = {model.model.model: model for model in live.models()}
    short = [name.partition("@")[2] for name in models]
    return {
        version if short.count(version) == 1 else name: model
        for version, (name, model) in zip(short, models.items(), strict=True)
    }


def version(live: LiveEndpoint, name: str) -> LiveModel:
    """The model version of this name, short or whole. Raises Problem 404."""
    for short, model in versions(live).items():
        if name in (short, model.model.model):
            return model
    raise problems.not_found(f"endpoint {live.document.name} serves no version {name[:64]}")


def predict_with(process: Process, live: LiveEndpoint, model: LiveModel, inputs: Sequence[Any] | Rows) -> Outputs:
    """What this model version answers, whoever's turn it is: no decision is made, and nothing is
    learned. Raises Problem 400 or 503."""
    start = time.perf_counter()
    try:
        return serve_alone(live, model, rows_of(live, inputs, process.max_rows), start)
    except RowsInvalid as error:
        raise problems.invalid_fields(error.errors) from error
    except ModelFailed as error:
        raise problems.unavailable(f"the model could not answer: {error}", retry_after=1) from error


def decide_only(
    process: Process, live: LiveEndpoint, body: bytes | DecideRequest, keeper: Keeper | None = None
) -> Decided:
    """Route and record, or have a `keeper` keep, for callers that run the model themselves. Raises
    Problem 400."""
    if isinstance(body, bytes):
        request = documents.DECIDE.decode(body)
    else:
        _check_texts(body)
        request = body
    decision = _decide(process, live, request, None, keeper)
    return Decided(DecideResponse(*_common(decision), decision.payload), decision)


def feedback(process: Process, key: Key, body: bytes | FeedbackBody) -> Heard:
    """One piece, or a batch under the key `feedback`. Raises Problem 400, 404, 409 or 503."""
    request = documents.FEEDBACK.decode(body) if isinstance(body, bytes) else body
    if request.feedback is not UNSET:
        return _feedback_batch(process, key, request, request.feedback)
    if request.decision_id is UNSET or request.value is UNSET:
        missing = [name for name in ("decision_id", "value") if getattr(request, name) is UNSET]
        raise problems.invalid_fields([{"field": name, "message": "required"} for name in missing])
    try:
        item = _feedback(request.decision_id, request.value, request.metric, request.occurred_at)
    except msgspec.ValidationError as invalid:
        raise problems.invalid_fields([bodies.field_error(str(invalid))]) from invalid
    result = _recorded(process, [item], key)[0]
    if result.status in {"recorded", "late"}:
        return Heard(202, {"status": result.status})
    if result.status == "duplicate":
        return Heard(200, {"status": "duplicate"})
    raise _problem(result)


def activate(process: Process, key: Key, body: bytes | ActivateRequest) -> Heard:
    """Decisions were shown: what was held back of them is learned from now on. Raises Problem 400
    or 503."""
    request = documents.ACTIVATE.decode(body) if isinstance(body, bytes) else body
    try:
        results = activate_decisions(process, request.decision_ids, key)
    except LedgerUnavailable as error:
        raise problems.unavailable("the ledger did not take the activations: send them again", retry_after=2) from error
    return Heard(
        207,
        {
            "results": [
                {
                    "status": result.status,
                    "error": None if result.problem is None else {"field": "decision_ids", "message": result.problem},
                }
                for result in results
            ]
        },
    )


def _or_none(value: Any) -> Any:
    return None if value is UNSET else value


def _check_texts(request: DecideRequest) -> None:
    """What a body of JSON is read for as a whole, of a request that came otherwise: NUL, which the
    ledger can't hold. Raises Problem 400."""
    texts = [("unit", request.unit), ("request_id", request.request_id)]
    for name, value in (_or_none(request.context) or {}).items():
        texts += [(f"context.{name}", name), (f"context.{name}", value)]
    wrong = [field for field, text in texts if isinstance(text, str) and "\0" in text]
    if wrong:
        raise problems.invalid_fields([{"field": field, "message": "holds NUL"} for field in wrong])


def _numbers(request: PredictRequest) -> PredictRequest:
    """The same, known to hold numbers. Raises Problem 400."""
    try:
        request.inputs = msgspec.convert(request.inputs, documents.NUMBERS)
    except msgspec.ValidationError as invalid:
        told = bodies.field_error(str(invalid))
        raise problems.invalid_fields([{**told, "field": f"inputs{told['field']}"}]) from invalid
    return request


def _decide(
    process: Process,
    live: LiveEndpoint,
    body: DecideRequest,
    inputs: Sequence[Any] | Rows | None,
    keeper: Keeper | None = None,
) -> Decision:
    asked = Asked(
        inputs,
        _or_none(body.unit),
        _or_none(body.context),
        _or_none(body.request_id),
        body.exclude or (),
        body.activate,
    )
    try:
        return decide(process, live, asked, keeper)
    except RowsInvalid as error:
        raise problems.invalid_fields(error.errors) from error
    except ContextInvalid as error:
        raise problems.invalid_fields([{"field": f"context.{error.field}", "message": error.message}]) from error
    except ModelFailed as error:
        raise problems.unavailable(f"the champion could not answer: {error}", retry_after=1) from error


def _common(
    decision: Decision,
) -> tuple[str, str, str | None, str | None, str, str, float, int, bool, bool, str | None]:
    """The fields of DecisionResponse, in its order."""
    return (
        decision.decision_id,
        decision.endpoint,
        decision.experiment,
        decision.arm,
        decision.model,
        decision.strategy,
        decision.propensity,
        decision.policy_version,
        decision.learnable,
        decision.stale,
        decision.fallback_reason,
    )


def _feedback_batch(process: Process, key: Key, body: FeedbackBody, items: list[msgspec.Raw]) -> Heard:
    beside = [name for name in ("decision_id", "value", "metric", "occurred_at") if getattr(body, name) is not UNSET]
    if beside:
        raise problems.invalid_fields([{"field": name, "message": "not beside `feedback`"} for name in beside])
    answers: list[dict[str, Any]] = [{} for _ in items]
    good: list[Feedback] = []
    places: list[int] = []
    for i, raw in enumerate(items):
        try:
            item = documents.FEEDBACK_ITEM.decode(raw)
            good.append(_feedback(item.decision_id, item.value, item.metric, item.occurred_at))
        except msgspec.ValidationError as invalid:
            answers[i] = {"status": "invalid", "error": bodies.field_error(str(invalid))}
        else:
            places.append(i)
    for i, result in zip(places, _recorded(process, good, key), strict=True):
        error = None if result.problem is None else {"field": result.field or "value", "message": result.problem}
        answers[i] = {"status": result.status, "error": error}
    return Heard(207, {"results": answers})


def _feedback(
    decision_id: str, value: float | bool, metric: str | UnsetType | None, occurred_at: datetime | UnsetType | None
) -> Feedback:
    at = _or_none(occurred_at)
    if at is not None:
        try:
            at = in_utc(at)
        except ValueError as error:
            raise msgspec.ValidationError(f"{error} - at `$.occurred_at`") from error
    return Feedback(decision_id, value, _or_none(metric), at)


def _recorded(process: Process, items: list[Feedback], key: Key) -> list[Result]:
    try:
        return record_rewards(process, items, key)
    except LedgerUnavailable as error:
        raise problems.unavailable("the ledger did not take the feedback: send it again", retry_after=2) from error


def _problem(result: Result) -> problems.Problem:
    detail = result.problem or ""
    if result.status == "unknown":
        return problems.not_found(detail)
    if result.status in {"conflict", "not_learnable"}:
        return problems.conflict(detail)
    return problems.invalid_fields([{"field": result.field or "value", "message": detail}])
