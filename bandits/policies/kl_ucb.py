"""KL-UCB: the greatest mean that the data do not refute. Source: Garivier & Cappé 2011."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bandits import checks
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .index import IndexPolicy, counted, unit_means, with_first_pulls
from .registry import register

_EDGE = 1e-12
_STEPS = 60
_CONVERGED = 1e-9


def upper_bound(mean: Array, level: Array) -> Array:
    """The greatest q in [mean, 1] with d(mean, q) <= level, d the relative entropy of Bernoulli
    distributions.

    Newton's method from the right: d is convex in q, so the steps never pass the root. It begins at
    Pinsker's bound, or at 1 - (1 - m) e^(-...), whichever is nearer: near 1 the slope of d is
    steep, and from the far end steps would be short.
    """
    m = np.clip(mean, 0.0, 1.0 - 4.0 * _EDGE)
    entropy = _xlogx(m) + _xlogx(1.0 - m)
    # d(m, q) >= entropy - (1 - m) ln(1 - q), as -m ln q >= 0: so the root is at most where that
    # reaches the level.
    far = 1.0 - np.exp((entropy - level) / (1.0 - m))
    q = np.minimum(np.minimum(m + np.sqrt(level / 2.0), far), 1.0 - _EDGE)
    q = np.maximum(q, m + 2.0 * _EDGE)
    for _ in range(_STEPS):
        excess = entropy - m * np.log(q) - (1.0 - m) * np.log1p(-q) - level
        slope = (q - m) / (q * (1.0 - q))
        step = np.where(slope > 0, excess / np.where(slope > 0, slope, 1.0), 0.0)
        q_next = np.clip(q - step, m, 1.0 - _EDGE)
        moved = float(np.abs(q_next - q).max(initial=0.0))
        q = np.maximum(q_next, _EDGE)
        if moved < _CONVERGED:
            break
    return np.asarray(q)


def _xlogx(x: Array) -> Array:
    return np.asarray(np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0)), 0.0))


@register
@dataclass(frozen=True, slots=True)
class KLUCB(IndexPolicy):
    """Play the greatest q with n d(m, q) <= ln t + c ln ln t; each arm once first. Rewards are
    scaled to [0, 1]."""

    name: ClassVar[str] = "kl-ucb"
    summary: ClassVar[str] = (
        "KL-UCB: the arm whose mean could still be highest, by the tightest margin that the data allow."
    )

    c: float = 0.0

    def __post_init__(self) -> None:
        checks.number("c", self.c, 0.0, float("inf"))

    def index(self, statistics: ArmStatistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        mean = unit_means(statistics, reward)

        def bound(n: Array, t: Array) -> Array:
            level = np.log(t) + (self.c * np.log(np.maximum(np.log(t), 1.0)) if self.c else 0.0)
            return upper_bound(mean, np.broadcast_to(level / n, mean.shape))

        return with_first_pulls(counted(statistics, pulls), bound)
