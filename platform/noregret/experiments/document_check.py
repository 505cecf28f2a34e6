"""What the types of an experiment's document can't say: which parts go together, and which values
follow from others."""

from itertools import pairwise

from msgspec import UNSET

from bandits.policies import make
from serving.feedback import MAX_VALUE

from .document import (
    ARMS_ONLY_FOR,
    ERROR_RATE,
    MAX_FEATURES,
    ONLY_FOR,
    Context,
    Experiment,
    Guardrail,
    Policy,
    Reward,
    Schedule,
    features_of,
    latency_quantile,
    promotion_of,
    schema_of,
)
from .errors import Invalid


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
        raise Invalid(f"{at}.max", "a limit is required: max, min or both")
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
        raise Invalid("reward.default", "0, 1 or nothing was expected: the reward is binary")
    if reward.kind == "count" and (default < 0 or default != int(default)):
        raise Invalid("reward.default", "a whole number, 0 or more, or nothing was expected: the reward is a count")
    if (low is not None and default < low) or (high is not None and default > high):
        raise Invalid("reward.default", "must be within minimum and maximum")


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
