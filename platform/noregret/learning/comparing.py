"""When two numbers, or two documents of numbers, are the same but for rounding."""

import math
from typing import Any

import numpy as np

TOLERANCE = 1e-9


def close(left: float, right: float, slack: float = 0.0) -> bool:
    return abs(left - right) <= TOLERANCE * max(1.0, abs(left), abs(right)) + slack


def rounding(count: float, mean: float, m2: float) -> float:
    """What rounding of a mean leaves in a sum of squared deviations from it: much, where rewards
    are far from 0 and close together."""
    return 16.0 * float(np.finfo(np.float64).eps) * abs(mean) * math.sqrt(count * max(m2, 0.0))


def same(live: Any, ledger: Any) -> bool:
    """Are two JSON documents the same, numbers as near as rounding allows?"""
    if isinstance(live, dict) and isinstance(ledger, dict):
        return live.keys() == ledger.keys() and all(same(live[key], ledger[key]) for key in live)
    if isinstance(live, list) and isinstance(ledger, list):
        return len(live) == len(ledger) and all(map(same, live, ledger))
    if isinstance(live, int | float) and isinstance(ledger, int | float):
        return close(float(live), float(ledger))
    return bool(live == ledger)
