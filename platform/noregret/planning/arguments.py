"""What people write on the command lines of `simulate` and `plan`, read into values; every error
says what was expected."""

import argparse
import json
import re
from typing import Any

_TRAFFIC = re.compile(r"^(?P<count>[0-9][0-9_,.]*)\s*/\s*(?P<unit>second|minute|hour|day|week)s?$")
_A_DAY = {"second": 86_400.0, "minute": 1440.0, "hour": 24.0, "day": 1.0, "week": 1.0 / 7.0}


def numbers(text: str) -> list[float]:
    """`0.1,0.05` as floats."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers with commas between were expected, as 0.1,0.05") from None
    return found


def names(text: str) -> list[str]:
    """`thompson,kl-ucb` as names."""
    return [part.strip() for part in text.split(",") if part.strip()]


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    try:
        found = int(text.replace("_", ""))
    except ValueError:
        found = 0
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number, 1 or more, was expected")
    return found


def natural(text: str) -> int:
    """A whole number of 0 or more."""
    return 0 if text == "0" else positive(text)


def traffic(text: str) -> float:
    """`1000/day` as decisions a day."""
    found = _TRAFFIC.match(text.strip())
    count = None
    if found:
        try:
            count = float(found["count"].replace("_", "").replace(",", ""))
        except ValueError:
            count = None
    if found is None or not count:
        raise argparse.ArgumentTypeError(f"{text!r}: a rate was expected, as 1000/day or 20/second")
    return count * _A_DAY[found["unit"]]


def parameters(text: str) -> dict[str, Any]:
    """`{"epsilon": 0.1}`"""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text!r}: a JSON object was expected, as {{"epsilon": 0.1}}')
    return found
