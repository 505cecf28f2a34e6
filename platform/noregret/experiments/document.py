"""An experiment as a document: what a caller may write, with every default. Types, and what follows
from them; what they can't say is in `document_check`, and what needs the database in `creation`."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bandits.context import ContextSchema
from bandits.policies import make
from noregret.names import ModelRef, Name

DAY = 86_400
# A model an arm of d features costs d^2 numbers in each snapshot, and as many multiplications for
# each request.
MAX_FEATURES = 64


# As documents tell them; rows have the same values as choices (`lifecycle`).
Strategy = Literal["shadow", "canary", "ab", "bandit"]
Status = Literal["draft", "running", "paused", "completed"]
Outcome = Literal["promoted", "rolled_back", "stopped"]


class Arm(Struct, frozen=True, forbid_unknown_fields=True):
    """A model version's seat."""

    name: Name
    model: ModelRef
    weight: Annotated[
        Annotated[float, Meta(ge=0, le=1e6)] | None,
        Meta(description="Its part of the traffic, beside the other weights. None has one: an even split."),
    ] = None
    payload: Annotated[Any, Meta(description="What `decide` answers with it, whatever it is.")] = None
    cost: Annotated[
        float,
        Meta(ge=0, le=1e12, description="What a decision for it costs; a policy with `subsidy` prefers cheap arms."),
    ] = 0.0


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """How a bandit chooses."""

    name: str = "thompson"
    params: Annotated[
        dict[str, Any],
        Meta(
            description='What this policy takes, as `{"epsilon": 0.1}`. With `{"discount": 0.999}` or '
            '`{"sliding_window": 5000}` every policy forgets, for worlds that drift.'
        ),
    ] = {}
    floor: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(
            description="The least share of every arm. Not given: 0.01, from eleven arms on a tenth of the traffic shared by all, "
            "also when arms are added."
        ),
    ] = None
    burn_in: Annotated[
        int, Meta(ge=0, le=1_000_000_000, description="Until an arm has so many rewards it gets an even share.")
    ] = 100


class Reward(Struct, frozen=True, forbid_unknown_fields=True):
    """What feedback is, and how long it counts."""

    metric: Name = "reward"
    kind: Annotated[
        Literal["binary", "continuous", "count"],
        Meta(description="0 or 1 (`binary`), any number (`continuous`), or 0, 1, 2 and so on (`count`)."),
    ] = "binary"
    direction: Literal["maximize", "minimize"] = "maximize"
    window_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=90 * DAY,
            description="How long after a decision its reward counts. Evidence waits for it: a shorter one decides sooner.",
        ),
    ] = 3600.0
    default: Annotated[
        float | None,
        Meta(
            description="The reward of a decision without feedback: 0 where silence means no, as with clicks. "
            "Not given: such decisions are not learned from."
        ),
    ] = None
    minimum: Annotated[
        float | None,
        Meta(description="What a continuous reward is at least. Promotion without a person needs it, and `maximum`."),
    ] = None
    maximum: Annotated[float | None, Meta(description="What a continuous reward or a count is at most.")] = None
    pending: Annotated[
        Literal["ignore", "exposure"],
        Meta(
            description="When a reward with a `default` is learned: when its window has closed (`ignore`), or at once, open decisions "
            "counted by the chance that feedback would have come by now (`exposure`). Without a default: always at once."
        ),
    ] = "ignore"


class UnnamedReward(Reward, frozen=True, forbid_unknown_fields=True):
    """The reward of an experiment whose document names none: its endpoint's, where that has one."""


class Field(Struct, frozen=True, forbid_unknown_fields=True):
    """A feature of requests: a number with `min` and `max`, or a category with `values`."""

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    type: Literal["number", "category"]
    values: Annotated[
        Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(min_length=1, max_length=100)] | UnsetType,
        Meta(description="Of a category."),
    ] = UNSET
    min: Annotated[float | UnsetType, Meta(description="Of a number.")] = UNSET
    max: Annotated[float | UnsetType, Meta(description="Of a number.")] = UNSET


class Context(Struct, frozen=True, forbid_unknown_fields=True):
    """What of a request's context is learned from, and evaluated on."""

    fields: Annotated[list[Field], Meta(max_length=50)] = []


class Promotion(Struct, frozen=True, forbid_unknown_fields=True):
    """When the winner becomes champion."""

    rule: Literal["anytime"] = "anytime"
    alpha: Annotated[
        float,
        Meta(gt=0, le=0.5, description="The chance of a false promotion, at most, however often it is looked at."),
    ] = 0.05
    indifference: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="A difference that does not matter, as a share of the reward's range: arms that are shown to be closer "
            "end the experiment without a winner. 0: never.",
        ),
    ] = 0.0
    min_rewards: Annotated[
        int, Meta(ge=0, le=1_000_000_000, description="So many matured rewards every arm must have.")
    ] = 100
    min_seconds: Annotated[
        float, Meta(ge=0, le=365 * DAY, description="So long after the start nothing is promoted by itself.")
    ] = 0.0
    cooldown_seconds: Annotated[
        float, Meta(ge=0, le=365 * DAY, description="So long after a change of champion nothing is promoted by itself.")
    ] = 0.0
    auto: Annotated[
        bool | UnsetType,
        Meta(
            description="Promote without a person. Where it is not given: true, but false for a bandit whose policy forgets or "
            "learns from features, for there which arm is best depends on the time or on the request, and for a canary "
            "whose `auto` is false."
        ),
    ] = UNSET


class Canary(Struct, frozen=True, forbid_unknown_fields=True):
    """The challenger's share, step by step; each step bakes before the next."""

    steps: Annotated[
        list[Annotated[float, Meta(gt=0, le=1)]],
        Meta(min_length=1, max_length=50, description="Shares of the units, each more than the one before."),
    ] = msgspec.field(default_factory=lambda: [0.05, 0.25, 0.5, 1.0])
    bake_seconds: Annotated[float, Meta(ge=1, le=30 * DAY, description="So long each step lasts at least.")] = 600.0
    min_decisions: Annotated[
        int,
        Meta(ge=1, le=1_000_000_000, description="So many decisions the challenger itself must serve at each step."),
    ] = 20
    auto: Annotated[bool, Meta(description="Advance without a person.")] = True


class Shadow(Struct, frozen=True, forbid_unknown_fields=True):
    """Which share of requests the challengers get a copy of."""

    sample: Annotated[float, Meta(gt=0, le=1)] = 1.0


class Guardrail(Struct, frozen=True, forbid_unknown_fields=True):
    """A limit on a metric of each arm, and what is done when an arm is shown to pass it."""

    metric: Annotated[
        Name, Meta(description="`error_rate`, `latency_p99_ms` or another percentile, or a metric of your feedback.")
    ]
    action: Literal["rollback", "disable_arm", "pause"]
    max: Annotated[float | None, Meta(description="More than it passes the limit.")] = None
    min: Annotated[float | None, Meta(description="Less than it passes the limit.")] = None
    versus: Annotated[
        Literal["limit", "control"],
        Meta(description="`control`: the limits are on the difference to the control's mean."),
    ] = "limit"
    min_decisions: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 50
    alpha: Annotated[float, Meta(gt=0, le=0.5)] = 0.05
    minimum: Annotated[
        float | None,
        Meta(
            description="What a value of the metric is at least: with it far fewer values show that the mean is high."
        ),
    ] = None
    maximum: Annotated[
        float | None,
        Meta(description="What a value of the metric is at most: with it far fewer values show that the mean is low."),
    ] = None


class Schedule(Struct, frozen=True, forbid_unknown_fields=True):
    """When it starts and ends by itself, and what is decided at its end."""

    start_at: Annotated[datetime, Meta(tz=True)] | None = None
    end_at: Annotated[datetime, Meta(tz=True)] | None = None
    max_seconds: Annotated[float, Meta(ge=1, le=3650 * DAY)] | None = None
    at_end: Literal["stop", "promote_leader"] = "stop"


class Experiment(Struct, frozen=True, forbid_unknown_fields=True):
    """One rollout on an endpoint."""

    name: Name
    endpoint: Annotated[Name, Meta(description="The name of the endpoint that clients call.")]
    strategy: Annotated[
        Strategy,
        Meta(
            description="`shadow`: challengers see copies, the champion answers. `canary`: one challenger gets more traffic "
            "step by step. `ab`: a fixed split. `bandit`: it learns, and shifts traffic to the better arm."
        ),
    ]
    arms: Annotated[
        list[Arm],
        Meta(
            min_length=1,
            max_length=100,
            description="The model versions to compare. The endpoint's champion is added as `control` where no arm has it.",
        ),
    ]
    policy: Policy | UnsetType = UNSET
    reward: Reward = msgspec.field(default_factory=UnnamedReward)
    promotion: Promotion = msgspec.field(default_factory=Promotion)
    context: Context | None = None
    canary: Canary | UnsetType | None = UNSET
    shadow: Shadow | UnsetType | None = UNSET
    guardrails: Annotated[list[Guardrail], Meta(max_length=20)] | None = None
    sticky: Annotated[bool, Meta(description="A unit keeps its arm. Not given: as its endpoint says.")] = False
    holdout: Annotated[
        float, Meta(ge=0, le=0.9, description="The share of units that the control serves, whatever is learned.")
    ] = 0.0
    apprentice: Annotated[
        bool, Meta(description="The policy chooses and learns, the champion serves, until it is activated.")
    ] = False
    schedule: Schedule | None = None
    edge_evidence: Annotated[
        bool,
        Meta(
            description="Decisions that were made on devices count like others. `false`: they are kept, and teach nothing; "
            "for devices whose key is public, and whose events anybody could make."
        ),
    ] = True
    edge_exclusions: Annotated[
        bool,
        Meta(
            description="Decisions of devices whose request excluded arms count too. `false`: they are kept beside, and teach "
            "nothing; for who makes such events up chooses their arm."
        ),
    ] = False


ONLY_FOR: dict[str, tuple[str, ...]] = {
    # Parts of the document that only some strategies use; elsewhere they are refused, never
    # ignored.
    "policy": ("bandit",),
    "canary": ("canary",),
    "shadow": ("shadow",),
    "sticky": ("bandit",),
    "holdout": ("bandit",),
    "apprentice": ("bandit",),
}
ARMS_ONLY_FOR: dict[str, tuple[str, ...]] = {"weight": ("ab",)}
"""The same of an arm."""
_LATENCY = re.compile(r"^latency_p(?P<percent>[1-9]\d?)_ms\Z")
ERROR_RATE = "error_rate"
EXCESS_FAILURES = 0.001
"""By how much a canary's challenger may fail more often than the control, where the document says
nothing else."""


def latency_quantile(metric: str) -> float | None:
    """0.99 for `latency_p99_ms`; None for another metric."""
    found = _LATENCY.match(metric)
    return int(found["percent"]) / 100 if found else None


def with_default_guardrails(strategy: str, guardrails: list[Guardrail]) -> list[Guardrail]:
    """A canary without a guardrail on errors gets one: where nobody looks, failing decisions would
    speak against nobody."""
    if strategy != "canary" or any(guardrail.metric == ERROR_RATE for guardrail in guardrails):
        return guardrails
    default = Guardrail(ERROR_RATE, "rollback", max=EXCESS_FAILURES, versus="control", min_decisions=20)
    return [*guardrails, default]


def schema_of(context: Context | None) -> ContextSchema | None:
    """The declared fields as bandits knows them; None where there are none."""
    return (
        None
        if context is None or not context.fields
        else ContextSchema.from_document(msgspec.to_builtins(context.fields))
    )


def features_of(context: Context | None) -> int | None:
    schema = schema_of(context)
    return None if schema is None else schema.features


def with_reward_of(document: Experiment, endpoint_reward: Mapping[str, Any] | None) -> Experiment:
    """A document that names no reward has its endpoint's."""
    if endpoint_reward is None or not isinstance(document.reward, UnnamedReward):
        return document
    return msgspec.structs.replace(document, reward=msgspec.convert(endpoint_reward, Reward))


def promotion_of(document: Experiment) -> Promotion:
    """The promotion rule with every default, `auto` included."""
    promotion = document.promotion
    if promotion.auto is not UNSET:
        return promotion
    return msgspec.structs.replace(promotion, auto=not (_best_arm_varies(document) or _is_by_hand(document)))


def _is_by_hand(document: Experiment) -> bool:
    """A canary of which a person takes each step: the last one leads to promotion."""
    canary = document.canary
    return document.strategy == "canary" and isinstance(canary, Canary) and not canary.auto


def _best_arm_varies(document: Experiment) -> bool:
    """Does the policy take it that which arm is best depends on the time or on the request?"""
    if document.strategy != "bandit" or document.policy is UNSET:
        return False
    try:
        made = make(document.policy.name, **document.policy.params)
    except ValueError:  # told where the policy is checked
        return False
    return bool(made.contextual or made.memory.forgets)
