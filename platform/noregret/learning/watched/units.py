"""A guardrail's limits and figures in its metric's unit: rates in per cent and their differences in
points, on pages and in reasons alike."""

from noregret.experiments.document import ERROR_RATE, Reward, latency_quantile
from noregret.learning.shown.numbers import against, plain


def is_rate(metric: str, reward: Reward) -> bool:
    """Is its mean a rate?"""
    return metric == ERROR_RATE or (metric == reward.metric and reward.kind == "binary")


def limit_told(metric: str, limit: float, reward: Reward, *, beside: bool) -> str:
    """`beside`: it is on a difference."""
    if latency_quantile(metric) is not None:
        return f"{plain(limit)} ms"
    if is_rate(metric, reward):
        return f"{plain(100.0 * limit)} points" if beside else plain(limit, percent=True)
    return plain(limit)


def measured_told(metric: str, value: float, limit: float, reward: Reward, *, beside: bool) -> str:
    """What was measured, in the unit of the limit that it stands beside."""
    if is_rate(metric, reward):
        return f"{against(100.0 * value, 100.0 * limit)}{' points' if beside else '%'}"
    return against(value, limit)
