"""What feedback on a package's decision must be."""

import re

from serving.reward_values import MAX_VALUE, value_problem

from .frozen import Reward

_METRIC = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


class FeedbackRefused(ValueError):
    """Feedback that is not taken. `status` is the service's word: `unknown`, `not_learnable`,
    `conflict` or `invalid`."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_metric(metric: str | None, reward: Reward | None) -> str:
    """The metric's name, the reward's own where none is given. Raises FeedbackRefused."""
    name = ("reward" if reward is None else reward.metric) if metric is None else metric
    if not isinstance(name, str) or not _METRIC.match(name):
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
