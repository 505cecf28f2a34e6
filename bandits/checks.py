"""Checks of parameters that people write: what was given, and what was expected."""

import math
from typing import Any


def number(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> float:
    """`value` as a float. Raises ValueError unless it is a number from `low` (exclusive where
    `open_low`) to `high`."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high or (open_low and value == low):
        bounds = f"more than {low:.15g}" if open_low else f"{low:.15g} or more"
        upper = "" if math.isinf(high) else f" and at most {high:.15g}"
        raise ValueError(f"{name} is {value!r}: a number, {bounds}{upper}, was expected")
    return float(value)


def whole(name: str, value: Any, low: int) -> int:
    """`value` as an int. Raises ValueError unless it is a whole number of `low` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} is {value!r}: a whole number, {low} or more, was expected")
    return value
