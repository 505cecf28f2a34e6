"""What a reward of a decision must be, as the bundle says that it was made by."""

from typing import Any, NamedTuple

from noregret_client.event_fields import is_metric
from noregret_client.reward_values import MAX_VALUE, value_problem

from .bundle import Reward


class _Declared(NamedTuple):
    """A reward's rules, as reward_values reads them."""

    kind: str
    minimum: float | None
    maximum: float | None
    declared: bool


def check_reward(value: Any, metric: Any, rules: Reward | None) -> None:
    """Raises ValueError for what a decision with these rules can't have; where they are not known,
    for what none can have."""
    if metric is not None and not is_metric(metric):
        raise ValueError("metric: letters, digits and ._- were expected, at most 63 of them")
    if not isinstance(value, int | float) or not -MAX_VALUE <= value <= MAX_VALUE:
        raise ValueError(f"value: a number between {-MAX_VALUE:g} and {MAX_VALUE:g} was expected")
    if rules is None:
        return
    if metric is None or metric == rules.metric:
        problem = value_problem(value, _Declared(rules.kind, rules.minimum, rules.maximum, rules.declared))
        if problem is not None:
            raise ValueError(f"value: {problem}")
    elif isinstance(value, bool):
        raise ValueError(f"value: must be a number for the metric {metric}")
