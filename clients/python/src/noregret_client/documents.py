"""What the platform answers, typed. Members that a later platform adds are ignored."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from .errors import Problem, ProblemDocument

FeedbackState = Literal["recorded", "duplicate", "late", "conflict", "not_learnable", "unknown", "invalid"]
ColumnType = Literal["number", "integer", "boolean", "string"]


class Decided(msgspec.Struct, kw_only=True):
    """What predict and decide answer alike. Where the local fallback answered, `decision_id` is
    None and `fallback_reason` is `platform_unreachable`."""

    decision_id: str | None
    endpoint: str
    experiment: str | None = None
    arm: str | None = None
    model: str
    strategy: str
    propensity: float
    policy_version: int
    learnable: bool
    stale: bool = False
    fallback_reason: str | None = None

    @property
    def is_local(self) -> bool:
        """Did the local fallback answer, and no platform?"""
        return self.decision_id is None


class Prediction(Decided, kw_only=True):
    """An answer of predict; `outputs` has a list with a value a row under each output's name."""

    outputs: dict[str, list[Any]]
    request_id: str | None = None
    """Of an answer of `predict_many`: the request that it answers."""

    @property
    def predictions(self) -> list[Any]:
        """A value a row: `outputs["predict"]`."""
        return self.outputs["predict"]


class PredictionResult(msgspec.Struct, kw_only=True):
    """What became of one request of many: the status that predict would have been answered with."""

    status: int
    answer: Prediction | None = None
    problem: ProblemDocument | None = None

    def outcome(self) -> Prediction | Problem:
        """The answer, or the refusal as an exception of its kind."""
        if self.answer is not None:
            return self.answer
        problem = self.problem or ProblemDocument(title="no answer")
        problem.status = self.status
        return problem.error()


class Choice(Decided, kw_only=True):
    """An answer of decide; `payload` is the arm's."""

    payload: Any = None


class FieldProblem(msgspec.Struct, frozen=True):
    """What is wrong with an item of a batch."""

    field: str
    message: str


class FeedbackResult(msgspec.Struct, frozen=True):
    """What became of an item of a batch, by its status; `error` says what is wrong with it."""

    status: str
    error: FieldProblem | None = None


class ActivationResult(msgspec.Struct, frozen=True):
    """What became of a decision that was to be activated."""

    status: str
    error: FieldProblem | None = None


class Model(msgspec.Struct, kw_only=True):
    """A registered model version: `model` is `name@version`."""

    id: int
    name: str
    version: str
    model: str
    framework: str
    sha256: str | None = None
    signature: dict[str, Any] = {}
    compiled: bool = False
    compile_note: str | None = None
    created_at: datetime | None = None


class Job(msgspec.Struct, kw_only=True):
    """A registration whose artefact is still looked at, or was."""

    job: str
    status: Literal["running", "done", "failed"]
    model: Model | None = None
    problem: ProblemDocument | None = None


class Column(msgspec.Struct, frozen=True):
    """A column of a model's rows."""

    name: str
    type: ColumnType
    nullable: bool = False
