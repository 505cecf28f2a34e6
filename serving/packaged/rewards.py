"""What feedback on a package's decision must be."""

from datetime import UTC, datetime
from typing import Any

from serving.reward_values import MAX_VALUE, value_problem

from .event_fields import is_metric
from .frozen import Reward

AHEAD_SECONDS = 300.0
"""So long before its decision a reward may be dated: two clocks never agree."""


class FeedbackRefused(ValueError):
    """Feedback that is not taken. `status` is the service's word: `unknown`, `not_learnable`,
    `conflict` or `invalid`."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_metric(metric: str | None, reward: Reward | None) -> str:
    """The metric's name, the reward's own where none is given. Raises FeedbackRefused."""
    name = ("reward" if reward is None else reward.metric) if metric is None else metric
    if not is_metric(name):
        raise FeedbackRefused("invalid", "metric: letters, digits and ._- were expected, at most 63 of them")
    return name


def problem_of(value: float | bool, metric: str, reward: Reward | None) -> str | None:
    """What is wrong with a value of a metric, or None."""
    if not isinstance(value, int | float) or not -MAX_VALUE <= value <= MAX_VALUE:
        return f"value: a number between {-MAX_VALUE:g} and {MAX_VALUE:g} was expected"
    if reward is not None and metric == reward.metric:
        problem = value_problem(value, reward)
        return None if problem is None else f"value: {problem}"
    return f"value: must be a number for the metric {metric}" if isinstance(value, bool) else None


def utc_of(occurred_at: Any) -> datetime:
    """A time in UTC, of one without a zone by this machine's. Raises FeedbackRefused for what is no
    time."""
    if not isinstance(occurred_at, datetime):
        raise FeedbackRefused("invalid", f"occurred_at: a datetime was expected, not {type(occurred_at).__name__}")
    try:
        return occurred_at.astimezone(UTC)
    except (OverflowError, ValueError, OSError) as error:  # what each platform says of a year that it does not have
        raise FeedbackRefused("invalid", "occurred_at: a time between the years 1 and 9999 was expected") from error
