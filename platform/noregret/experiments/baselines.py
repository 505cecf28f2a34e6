"""What feedback on a single deployment is, by its baseline."""

from . import stored
from .document import Reward
from .models import Baseline

UNDECLARED = Reward(kind="continuous")
"""What feedback on a single deployment is where its endpoint names no reward: any number."""


def reward_of(baseline: Baseline) -> Reward:
    return UNDECLARED if baseline.reward is None else stored.reward(baseline.reward)
