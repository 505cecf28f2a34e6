"""Which values a reward may have. An exported package carries this file as it is."""

import math
from typing import Protocol

MAX_VALUE = 1e15
"""The greatest value, either way: beyond it whole numbers are not exact, and squares of a ledger's
worth would not fit."""


class DeclaredReward(Protocol):
    """What is declared of a reward: a Reward of the snapshot."""

    @property
    def kind(self) -> str: ...

    @property
    def minimum(self) -> float | None: ...

    @property
    def maximum(self) -> float | None: ...

    @property
    def declared(self) -> bool: ...


def value_problem(value: float | bool, reward: DeclaredReward) -> str | None:
    """What is wrong with a value of the experiment's reward, or None."""
    if reward.kind == "binary":
        return None if value in (0, 1) else "must be 0, 1, false or true: the reward is binary"
    if isinstance(value, bool) and reward.declared:
        return f"must be a number: the reward is {reward.kind}"
    if not math.isfinite(value):
        return "must be finite"
    if reward.kind == "count" and (value < 0 or value != int(value)):
        return "must be a whole number, 0 or more: the reward is a count"
    if reward.minimum is not None and value < reward.minimum:
        return f"must be at least {reward.minimum:.15g}"
    if reward.maximum is not None and value > reward.maximum:
        return f"must be at most {reward.maximum:.15g}"
    return None
