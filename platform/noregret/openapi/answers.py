"""What the control plane answers, as types: the OpenAPI document is made from them, and tests hold the answers against it."""

from typing import Any, Literal

from msgspec import Struct

from noregret.experiments.document import Canary, Context, Guardrail, Policy, Promotion, Reward, Schedule, Shadow


class Signature(Struct):
    features: int | None
    feature_names: list[str] | None
    outputs: list[str]
    classes: list[Any] | None
    task: Literal["classifier", "regressor", "other"]
    example_rows: list[list[float]] | None = None


class Model(Struct):
    """A model version."""

    id: int
    name: str
    version: str
    model: str
    framework: Literal["sklearn", "python", "static"]
    sha256: str | None
    signature: Signature
    compiled: bool
    compile_note: str | None
    call_seconds: float | None  # measured at registration, with what each row adds
    row_seconds: float | None
    callable: str | None
    payload: Any
    created_at: str


class Endpoint(Struct):
    """The stable name that clients call."""

    id: int
    name: str
    champion: str
    deadline_ms: int
    sticky: bool
    policy_version: int
    created_at: str


class ExperimentArm(Struct):
    name: str
    model: str
    weight: float | None
    payload: Any
    cost: float
    is_control: bool
    enabled: bool


class Experiment(Struct):
    """One rollout on an endpoint. `rows_from`: decisions before it were dropped from the ledger (null: none); their sums are kept."""

    id: int
    name: str
    endpoint: str
    strategy: Literal["shadow", "canary", "ab", "bandit"]
    status: Literal["draft", "running", "paused", "completed"]
    outcome: Literal["promoted", "rolled_back", "stopped"] | None
    promoted_arm: str | None
    arms: list[ExperimentArm]
    policy: Policy | None
    reward: Reward
    promotion: Promotion
    context: Context | None
    canary: Canary | None
    shadow: Shadow | None
    guardrails: list[Guardrail]
    schedule: Schedule | None
    sticky: bool
    holdout: float
    apprentice: bool
    warnings: list[str]
    created_at: str
    started_at: str | None
    ended_at: str | None
    rows_from: str | None


class AuditEntry(Struct):
    """One change: by whom, when and why."""

    id: int
    at: str
    actor: str
    action: str
    endpoint: str | None
    experiment: str | None
    model: str | None
    reason: str | None
    details: dict[str, Any]


class ModelPage(Struct):
    items: list[Model]
    next_cursor: str | None


class EndpointPage(Struct):
    items: list[Endpoint]
    next_cursor: str | None


class ChampionChange(Struct):
    """A model version's accession as champion, and the evidence for it."""

    id: int
    at: str
    champion: str
    previous: str | None
    experiment: str | None
    actor: str
    reason: str | None
    evidence: dict[str, Any]
    rollback: bool


class ChampionPage(Struct):
    items: list[ChampionChange]
    next_cursor: str | None


class ExperimentPage(Struct):
    items: list[Experiment]
    next_cursor: str | None


class AuditPage(Struct):
    items: list[AuditEntry]
    next_cursor: str | None


class Webhook(Struct):
    """An address that is told of events, with how many messages wait for it and how many were given up."""

    id: int
    name: str
    url: str
    events: list[str]
    endpoints: list[str] | None
    active: bool
    waiting: int
    failed: int


class NewWebhook(Webhook):
    """With its secret, which is told once: it signs X-Noregret-Signature."""

    secret: str


class WebhookPage(Struct):
    items: list[Webhook]
    next_cursor: str | None


class FieldError(Struct):
    field: str
    message: str


class Problem(Struct, omit_defaults=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class FeedbackStatus(Struct):
    status: Literal["recorded", "duplicate", "late"]


class FeedbackResult(Struct):
    status: Literal["recorded", "duplicate", "late", "conflict", "not_learnable", "unknown", "invalid"]
    error: FieldError | None


class FeedbackResults(Struct):
    results: list[FeedbackResult]
