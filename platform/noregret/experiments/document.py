"""An experiment as a document: what a caller may write, with every default. Types only; what needs
the database is in `creation`."""

import re
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bandits.context import ContextSchema
from bandits.policies import make
from noregret.names import ModelRef, Name
from serving.feedback import MAX_VALUE

from .errors import Invalid

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
            "learns from features, for there which arm is best depends on the time or on the request."
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


def check(document: Experiment) -> None:
    """What the types can't say. Raises Invalid for the first thing that is wrong."""
    for part, strategies in ONLY_FOR.items():
        if document.strategy not in strategies and getattr(document, part) not in (UNSET, None, False, 0.0):
            raise Invalid(part, f"only for the strategy {' or '.join(strategies)}: this one is {document.strategy}")
    _check_arms(document)
    _check_canary(document)
    for i, guardrail in enumerate(document.guardrails or []):
        _check_guardrail(guardrail, f"guardrails[{i}]", document.strategy)
    _check_schedule(document.schedule)
    check_reward(document.reward)
    check_context(document.context)
    _check_promotion(document)


def _check_canary(document: Experiment) -> None:
    if document.strategy == "canary" and len(document.arms) > 2:
        raise Invalid("arms", "a canary has one challenger: the champion is control without being named")
    if document.canary in (UNSET, None):
        return
    steps = document.canary.steps
    for i, (before, after) in enumerate(pairwise(steps), start=1):
        if not after > before:
            raise Invalid(f"canary.steps[{i}]", "must be more than the step before: a canary grows")


def _check_guardrail(guardrail: Guardrail, at: str, strategy: str) -> None:
    for name in ("min", "max", "minimum", "maximum"):
        bound = getattr(guardrail, name)
        if bound is not None and abs(bound) > MAX_VALUE:
            raise Invalid(f"{at}.{name}", f"between {-MAX_VALUE:g} and {MAX_VALUE:g} was expected")
    if guardrail.max is None and guardrail.min is None:
        raise Invalid(f"{at}.max", "required, or min")
    if guardrail.metric == ERROR_RATE or latency_quantile(guardrail.metric) is not None:
        if guardrail.min is not None:
            raise Invalid(f"{at}.min", f"{guardrail.metric} has no lower limit")
        if guardrail.max is not None and guardrail.max < 0:
            raise Invalid(f"{at}.max", "0 or more was expected")
        if guardrail.metric == ERROR_RATE and guardrail.max is not None and guardrail.max > 1:
            raise Invalid(f"{at}.max", "an error rate is at most 1")
        if guardrail.versus == "control" and guardrail.metric != ERROR_RATE:
            raise Invalid(f"{at}.versus", "a latency is held against a limit: limit was expected")
        for bound in ("minimum", "maximum"):
            if getattr(guardrail, bound) is not None:
                raise Invalid(f"{at}.{bound}", f"{guardrail.metric} is a share of decisions: it has its bounds")
    _check_bounds(guardrail, at)
    if guardrail.min is not None and guardrail.max is not None and not guardrail.min < guardrail.max:
        raise Invalid(f"{at}.max", "must be more than min")
    if strategy == "shadow" and guardrail.action == "rollback" and guardrail.versus == "control":
        raise Invalid(f"{at}.action", "a shadow serves nobody: disable_arm or pause was expected")


def _check_bounds(guardrail: Guardrail, at: str) -> None:
    minimum, maximum = guardrail.minimum, guardrail.maximum
    if minimum is not None and maximum is not None and not minimum < maximum:
        raise Invalid(f"{at}.maximum", "must be more than minimum")
    if guardrail.versus == "control":
        return
    for limit in ("min", "max"):
        value = getattr(guardrail, limit)
        if value is None:
            continue
        if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
            raise Invalid(f"{at}.{limit}", "must be within minimum and maximum, or nothing can ever pass it")


def _check_schedule(schedule: Schedule | None) -> None:
    if schedule is None:
        return
    if schedule.start_at is not None and schedule.end_at is not None and not schedule.start_at < schedule.end_at:
        raise Invalid("schedule.end_at", "must be after start_at")


def check_context(context: Context | None) -> None:
    """What the types can't say of declared fields. Raises Invalid."""
    names: set[str] = set()
    for i, field in enumerate([] if context is None else context.fields):
        at = f"context.fields[{i}]"
        if field.name in names:
            raise Invalid(f"{at}.name", f"{field.name} is the name of another field")
        names.add(field.name)
        given = {name for name in ("values", "min", "max") if getattr(field, name) is not UNSET}
        wanted = {"min", "max"} if field.type == "number" else {"values"}
        for name in sorted(wanted ^ given):
            raise Invalid(
                f"{at}.{name}", f"required for a {field.type}" if name in wanted else f"a {field.type} has none"
            )
        if field.type == "number" and not field.min < field.max:  # type: ignore[operator]  # both are given
            raise Invalid(f"{at}.max", "must be more than min")
        if field.type == "number" and max(abs(field.min), abs(field.max)) > MAX_VALUE:  # type: ignore[arg-type]  # both are given
            raise Invalid(f"{at}.max", f"between {-MAX_VALUE:g} and {MAX_VALUE:g} was expected")
        if field.values is not UNSET and len(set(field.values)) < len(field.values):
            raise Invalid(f"{at}.values", "a value occurs twice")
    features = features_of(context)
    if features is not None and features > MAX_FEATURES:
        raise Invalid(
            "context.fields", f"{features} features: at most {MAX_FEATURES} were expected, categories count one a value"
        )


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


def _check_arms(document: Experiment) -> None:
    names = [arm.name for arm in document.arms]
    for i, arm in enumerate(document.arms):
        if arm.name in names[:i]:
            raise Invalid(f"arms[{i}].name", f"{arm.name} is the name of another arm")
        if document.strategy not in ARMS_ONLY_FOR["weight"] and arm.weight is not None:
            raise Invalid(f"arms[{i}].weight", f"only an ab experiment has weights: this one is {document.strategy}")
    weights = [arm.weight for arm in document.arms]
    if document.strategy == "ab" and any(weight is not None for weight in weights):
        for i, weight in enumerate(weights):
            if weight is None:
                raise Invalid(f"arms[{i}].weight", "required where another arm has one")
        if not sum(weight for weight in weights if weight is not None) > 0:
            raise Invalid("arms", "at least one weight must be more than 0")


def with_reward_of(document: Experiment, endpoint_reward: Mapping[str, Any] | None) -> Experiment:
    """A document that names no reward has its endpoint's."""
    if endpoint_reward is None or not isinstance(document.reward, UnnamedReward):
        return document
    return msgspec.structs.replace(document, reward=msgspec.convert(endpoint_reward, Reward))


def check_reward(reward: Reward) -> None:
    low, high = reward.minimum, reward.maximum
    for name in ("minimum", "maximum", "default"):
        bound = getattr(reward, name)
        if bound is not None and abs(bound) > MAX_VALUE:
            raise Invalid(
                f"reward.{name}", f"between {-MAX_VALUE:g} and {MAX_VALUE:g} was expected, as of every reward"
            )
    if reward.kind == "binary":
        if low not in (None, 0) or high not in (None, 1):
            raise Invalid("reward.minimum" if low not in (None, 0) else "reward.maximum", "a binary reward is 0 or 1")
        low, high = 0.0, 1.0
    if reward.kind == "count" and low is not None and low < 0:
        raise Invalid("reward.minimum", "a count is 0 or more")
    if low is not None and high is not None and not low < high:
        raise Invalid("reward.maximum", "must be more than the minimum")
    default = reward.default
    if reward.pending == "exposure" and (default != 0 or reward.kind == "continuous"):
        raise Invalid(
            "reward.pending",
            "exposure needs a binary or count reward whose default is 0: no feedback must mean a reward of 0",
        )
    if default is None:
        return
    if reward.kind == "binary" and default not in (0, 1):
        raise Invalid("reward.default", "must be 0, 1 or null: the reward is binary")
    if reward.kind == "count" and (default < 0 or default != int(default)):
        raise Invalid("reward.default", "must be a whole number, 0 or more, or null: the reward is a count")
    if (low is not None and default < low) or (high is not None and default > high):
        raise Invalid("reward.default", "must be within minimum and maximum")


def promotion_of(document: Experiment) -> Promotion:
    """The promotion rule with every default, `auto` included."""
    promotion = document.promotion
    if promotion.auto is not UNSET:
        return promotion
    return msgspec.structs.replace(promotion, auto=not _best_arm_varies(document))


def _best_arm_varies(document: Experiment) -> bool:
    """Does the policy take it that which arm is best depends on the time or on the request?"""
    if document.strategy != "bandit" or document.policy is UNSET:
        return False
    try:
        made = make(document.policy.name, **document.policy.params)
    except ValueError:  # told where the policy is checked
        return False
    return bool(made.contextual or made.memory.forgets)


def _check_promotion(document: Experiment) -> None:
    reward = document.reward
    bounded = reward.kind == "binary" or (
        reward.maximum is not None and (reward.minimum is not None or reward.kind == "count")
    )
    # A canary goes by its guardrails and its bake time where its reward has no bounds; a shadow's
    # arms earn nothing.
    if document.strategy in {"ab", "bandit"} and promotion_of(document).auto and not bounded:
        missing = "maximum" if reward.maximum is None else "minimum"
        raise Invalid(
            f"reward.{missing}",
            "the anytime rule needs a bounded reward: give minimum and maximum, or set promotion.auto to false",
        )


def policy_of(document: Experiment, arms: int) -> Policy | None:
    """The bandit's policy with its defaults, checked for so many arms; None for other strategies.
    Raises Invalid."""
    if document.strategy != "bandit":
        return None
    policy = Policy() if document.policy is UNSET else document.policy
    try:
        made = make(policy.name, **policy.params)
    except ValueError as error:
        raise Invalid("policy.params" if "parameters" in str(error) else "policy.name", str(error)) from error
    if made.contextual:
        if schema_of(document.context) is None:
            raise Invalid("context.fields", f"{policy.name} learns from features: at least one field was expected")
        if made.memory.sliding_window is not None:
            raise Invalid(
                "policy.params", f"{policy.name} forgets by discount: sliding_window is for policies without features"
            )
        if made.model == "logistic" and document.reward.kind != "binary":
            raise Invalid("reward.kind", f"{policy.name} needs a binary reward")
        if document.reward.pending != "ignore":
            raise Invalid(
                "reward.pending",
                f"{policy.name} learns where a window has closed, or without a default: ignore was expected",
            )
        _check_comparable(document.guardrails or [], policy.name)
    if policy.floor is not None and policy.floor * arms > 1:
        raise Invalid("policy.floor", f"at most {1 / arms:g} was expected for {arms} arms")
    return policy


def _check_comparable(guardrails: list[Guardrail], policy: str) -> None:
    """A policy that chooses by the request gives its arms different requests: their plain means say
    nothing of the arms."""
    for i, guardrail in enumerate(guardrails):
        if guardrail.versus == "control":
            raise Invalid(
                f"guardrails[{i}].versus",
                f"{policy} chooses by the request, so its arms' means are of different requests: limit was expected",
            )
