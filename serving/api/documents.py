"""The documents of Noregret's own protocol, as they are decoded and answered; OpenAPI is made from
these types."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from serving.activation import ActivationStatus
from serving.feedback import MAX_BATCH
from serving.names import NAME_PATTERN
from serving.problems import FieldError, ProblemDocument
from serving.runtimes.columns import Rows
from serving.times import Time

from . import bodies

Text256 = Annotated[str, Meta(min_length=1, max_length=256)]
Name = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}\Z")]
MOST_EXCLUDED = 1000
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float
Context = dict[str, str | Number | bool | None]


class DecideRequest(Struct, forbid_unknown_fields=True):
    """Body of decide."""

    unit: Text256 | UnsetType | None = UNSET
    context: Context | UnsetType | None = UNSET
    request_id: Text256 | UnsetType | None = UNSET
    exclude: (
        Annotated[
            list[Name],
            Meta(
                max_length=MOST_EXCLUDED,
                description="Arms that the request is not for. Names that no arm of the running experiment has are passed over.",
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    activate: Annotated[
        bool, Meta(description="false: nothing is learned of the decision until it is activated by its id.")
    ] = True


class PredictRequest(DecideRequest, forbid_unknown_fields=True, kw_only=True):
    """Body of predict."""

    inputs: Annotated[
        list[list[Any] | dict[str, Any]],
        Meta(
            min_length=1,
            description="Rows as lists, or as objects by feature name. Their values are what the model's `columns` say: numbers, "
            "integers, booleans, strings, and null where a column is nullable; numbers where it has no columns.",
        ),
    ]


class NumbersRequest(DecideRequest, forbid_unknown_fields=True, kw_only=True):
    """Body of predict for a model without columns, whose rows are numbers."""

    inputs: Annotated[list[list[float] | dict[str, float]], Meta(min_length=1)]


class RowsRequest(DecideRequest, kw_only=True):
    """A predict whose rows another protocol has made of its own form already
    (`serving.runtimes.rows.from_columns`)."""

    inputs: Rows


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


class NamedPrediction(PredictResponse):
    """What predict answers, with the name of the request."""

    request_id: str


MOST_PREDICTIONS = 100
RememberSeconds = Annotated[
    int,
    Meta(ge=10, le=86_400, description="So long a request is known by its request_id, and answered the same again."),
]


class PredictionsRequest(Struct, forbid_unknown_fields=True):
    """Body of predictions: predict's bodies, each with a `request_id`."""

    requests: Annotated[list[PredictRequest], Meta(min_length=1, max_length=MOST_PREDICTIONS)]
    remember_seconds: RememberSeconds = 600


class PredictionsBody(Struct, forbid_unknown_fields=True):
    """The same, as it is decoded: requests one by one, so that a wrong one spoils no other."""

    requests: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MOST_PREDICTIONS)]
    remember_seconds: RememberSeconds | UnsetType = UNSET


class PredictionResult(Struct):
    """What became of a request: the status that predict would have answered with, and its answer or
    its problem."""

    status: int
    answer: NamedPrediction | None
    problem: ProblemDocument | None


class PredictionResults(Struct):
    """Answer of predictions, in the order of the requests."""

    results: list[PredictionResult]


class FeedbackRequest(Struct, forbid_unknown_fields=True):
    """Body of feedback on one decision, and each item of a batch."""

    decision_id: str
    value: float | bool
    metric: Name | UnsetType | None = UNSET
    occurred_at: Time | UnsetType | None = UNSET


class FeedbackBatchRequest(Struct, forbid_unknown_fields=True):
    """Body of feedback on many decisions."""

    feedback: Annotated[list[FeedbackRequest], Meta(min_length=1, max_length=MAX_BATCH)]


class FeedbackStatus(Struct):
    """Answer of feedback on one decision."""

    status: Literal["recorded", "duplicate", "late"]


class FeedbackResult(Struct):
    """What became of an item of a batch."""

    status: Literal["recorded", "duplicate", "late", "conflict", "not_learnable", "unknown", "invalid"]
    error: FieldError | None


class FeedbackResults(Struct):
    """Answer of feedback on many decisions, in their order."""

    results: list[FeedbackResult]


class ActivateRequest(Struct, forbid_unknown_fields=True):
    """Body of activate: the decisions that were shown."""

    decision_ids: Annotated[list[str], Meta(min_length=1, max_length=MAX_BATCH)]


class ActivationResult(Struct):
    """What became of a decision. `duplicate`: it was activated before, or never waited."""

    status: ActivationStatus
    error: FieldError | None


class ActivationResults(Struct):
    """Answer of activate, in the order of the ids."""

    results: list[ActivationResult]


class FeedbackBody(Struct, forbid_unknown_fields=True):
    """Either form, as it is decoded. A batch's items are checked one by one, so that one wrong item
    spoils no other."""

    decision_id: str | UnsetType = UNSET
    value: float | bool | UnsetType = UNSET
    metric: Name | UnsetType | None = UNSET
    occurred_at: Time | UnsetType | None = UNSET
    feedback: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_BATCH)] | UnsetType = UNSET


def _count_decide(body: DecideRequest) -> int:
    count = (body.unit is not UNSET) + (body.context is not UNSET) + (body.request_id is not UNSET)
    # A field with a default does not tell whether it was sent: with false it was, with true the
    # definite check is made.
    count += (body.exclude is not UNSET) + (not body.activate)
    if body.context:
        count += len(body.context)
    return count


def _count_predict(body: PredictRequest | NumbersRequest) -> int:
    return 1 + _count_decide(body) + sum(len(row) for row in body.inputs if isinstance(row, dict))


def _count_feedback(body: FeedbackBody) -> int:
    fields = (body.decision_id, body.value, body.metric, body.occurred_at, body.feedback)
    count = sum(field is not UNSET for field in fields)
    if body.feedback is UNSET:
        return count
    try:
        return count + sum(len(_ITEM_KEYS.decode(item)) for item in body.feedback)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # an item that is no object, or no text
        return bodies.UNCOUNTED


PREDICT = bodies.Form(NumbersRequest, _count_predict)
PREDICT_COLUMNS = bodies.Form(PredictRequest, _count_predict)
PREDICTIONS = bodies.ListForm(
    PredictionsBody, lambda body: body.requests, lambda body: 1 + (body.remember_seconds is not UNSET)
)
NUMBERS = list[list[float] | dict[str, float]]
DECIDE = bodies.Form(DecideRequest, _count_decide)
ACTIVATE = bodies.Form(ActivateRequest, lambda body: 1)
FEEDBACK = bodies.Form(FeedbackBody, _count_feedback)
_ITEM_KEYS = msgspec.json.Decoder(dict[str, Any])
FEEDBACK_ITEM = msgspec.json.Decoder(FeedbackRequest)
