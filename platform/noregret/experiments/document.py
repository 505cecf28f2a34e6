"""An experiment as a document: what a caller may write, with every default. Types only; what needs the database is in `creation`."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bandits.policies import make
from noregret.names import NAME_PATTERN

from .errors import Invalid

Name = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}\Z", description="Lower-case letters, digits, '.', '_' and '-'.")]
ModelRef = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}@{NAME_PATTERN}\Z", description="`name@version`.")]
DAY = 86_400


class Arm(Struct, forbid_unknown_fields=True):
    """A model version's seat."""

    name: Name
    model: ModelRef
    weight: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    payload: Any = None


class Policy(Struct, forbid_unknown_fields=True):
    """How a bandit chooses."""

    name: str = "thompson"
    params: dict[str, Any] = {}
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.01
    burn_in: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 100


class Reward(Struct, forbid_unknown_fields=True):
    """What feedback is, and how long it counts."""

    metric: Name = "reward"
    kind: Literal["binary", "continuous", "count"] = "binary"
    direction: Literal["maximize", "minimize"] = "maximize"
    window_seconds: Annotated[float, Meta(ge=1, le=90 * DAY)] = 3600.0
    default: float | None = None
    minimum: float | None = None
    maximum: float | None = None


class Promotion(Struct, forbid_unknown_fields=True):
    """When the winner becomes champion."""

    rule: Literal["anytime"] = "anytime"
    alpha: Annotated[float, Meta(gt=0, le=0.5)] = 0.05
    indifference: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    min_rewards: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 100
    min_seconds: Annotated[float, Meta(ge=0, le=365 * DAY)] = 0.0
    auto: bool = True


class Experiment(Struct, forbid_unknown_fields=True):
    """One rollout on an endpoint."""

    name: Name
    endpoint: Name
    strategy: Literal["shadow", "canary", "ab", "bandit"]
    arms: Annotated[list[Arm], Meta(min_length=1, max_length=100)]
    policy: Policy | UnsetType = UNSET
    reward: Reward = msgspec.field(default_factory=Reward)
    promotion: Promotion = msgspec.field(default_factory=Promotion)
    context: Any = None
    canary: Any = None
    shadow: Any = None
    guardrails: Any = None
    sticky: bool = False
    holdout: float = 0.0


_LATER: dict[str, tuple[Any, ...]] = {
    # Parts of the document that no strategy of this version acts on, and the values that ask nothing of them.
    "context": (None, {}, {"fields": []}),
    "canary": (None, {}),
    "shadow": (None, {}),
    "guardrails": (None, []),
    "sticky": (False,),
    "holdout": (0.0,),
}


def check(document: Experiment) -> None:
    """What the types can't say. Raises Invalid for the first thing that is wrong."""
    if document.strategy not in {"ab", "bandit"}:
        raise Invalid("strategy", f"{document.strategy} is not available in this version: ab or bandit was expected")
    for part, neutral in _LATER.items():
        if getattr(document, part) not in neutral:
            raise Invalid(part, "not available in this version; leave it out")
    if document.strategy == "ab" and document.policy is not UNSET:
        raise Invalid("policy", "an ab experiment splits by weights: only a bandit has a policy")
    _check_arms(document)
    _check_reward(document.reward)
    _check_promotion(document)


def _check_arms(document: Experiment) -> None:
    names = [arm.name for arm in document.arms]
    for i, arm in enumerate(document.arms):
        if arm.name in names[:i]:
            raise Invalid(f"arms[{i}].name", f"{arm.name} is the name of another arm")
        if document.strategy != "ab" and arm.weight is not None:
            raise Invalid(f"arms[{i}].weight", "a bandit finds its own weights: only an ab experiment has them")
    weights = [arm.weight for arm in document.arms]
    if document.strategy == "ab" and any(weight is not None for weight in weights):
        for i, weight in enumerate(weights):
            if weight is None:
                raise Invalid(f"arms[{i}].weight", "required where another arm has one")
        if not sum(weight for weight in weights if weight is not None) > 0:
            raise Invalid("arms", "at least one weight must be more than 0")


def _check_reward(reward: Reward) -> None:
    low, high = reward.minimum, reward.maximum
    if reward.kind == "binary":
        if low not in (None, 0) or high not in (None, 1):
            raise Invalid("reward.minimum" if low not in (None, 0) else "reward.maximum", "a binary reward is 0 or 1")
        low, high = 0.0, 1.0
    if reward.kind == "count" and low is not None and low < 0:
        raise Invalid("reward.minimum", "a count is 0 or more")
    if low is not None and high is not None and not low < high:
        raise Invalid("reward.maximum", "must be more than the minimum")
    default = reward.default
    if default is None:
        return
    if reward.kind == "binary" and default not in (0, 1):
        raise Invalid("reward.default", "must be 0, 1 or null: the reward is binary")
    if reward.kind == "count" and (default < 0 or default != int(default)):
        raise Invalid("reward.default", "must be a whole number, 0 or more, or null: the reward is a count")
    if (low is not None and default < low) or (high is not None and default > high):
        raise Invalid("reward.default", "must be within minimum and maximum")


def _check_promotion(document: Experiment) -> None:
    reward = document.reward
    bounded = reward.kind == "binary" or (
        reward.maximum is not None and (reward.minimum is not None or reward.kind == "count")
    )
    if document.promotion.auto and not bounded:
        missing = "maximum" if reward.maximum is None else "minimum"
        raise Invalid(
            f"reward.{missing}",
            "the anytime rule needs a bounded reward: give minimum and maximum, or set promotion.auto to false",
        )


def policy_of(document: Experiment, arms: int) -> Policy | None:
    """The bandit's policy with its defaults, checked for so many arms; None for other strategies. Raises Invalid."""
    if document.strategy != "bandit":
        return None
    policy = Policy() if document.policy is UNSET else document.policy
    try:
        make(policy.name, **policy.params)
    except ValueError as error:
        raise Invalid("policy.params" if "parameters" in str(error) else "policy.name", str(error)) from error
    if policy.floor * arms > 1:
        raise Invalid("policy.floor", f"at most {1 / arms:g} was expected for {arms} arms")
    return policy
