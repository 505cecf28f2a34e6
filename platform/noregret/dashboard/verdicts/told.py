"""Numbers and dates as the page's sentences write them. Reads nothing."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

_MOST_DECIMALS = 6
_SMALL = 1e-4
"""Below it a value is written with an exponent."""
_LEAST_PERCENT = 0.001
"""A rate that stands alone and is below it is told to be so."""
_FAR = timedelta(days=366)
"""No traffic holds for longer: a date beyond it is not told."""


def values(numbers: Sequence[float], *, percent: bool) -> list[str]:
    """Values beside each other, with as many decimals as tell them apart; of a rate in per cent."""
    scaled = [100.0 * number if percent else number for number in numbers]
    sizes = [abs(number) for number in scaled]
    if not percent and max(sizes, default=0.0) < _SMALL:
        return [f"{number:.3g}" for number in scaled]
    ordered = sorted(set(scaled))
    gaps = [after - before for before, after in pairwise(ordered)]
    if gaps:
        decimals = math.ceil(-math.log10(min(gaps)))
    else:
        size = max(sizes, default=0.0)
        decimals = 2 - math.ceil(math.log10(size)) if size else 0
    least = 1 if percent else 0
    decimals = min(max(decimals, least), _MOST_DECIMALS)
    if percent and not gaps and 0.0 < max(sizes, default=0.0) < _LEAST_PERCENT:
        return [f"under {_LEAST_PERCENT:g}%"] * len(scaled)
    return [f"{number:,.{decimals}f}{'%' if percent else ''}" for number in scaled]


def difference(value: float, ends: tuple[float, float] | None, *, percent: bool) -> str:
    """A difference of means with its interval: '+1.1 points (95%: +0.3 to +1.9)'."""
    scale = 100.0 if percent else 1.0
    numbers = [scale * number for number in (value, *(ends or ()))]
    width = (numbers[2] - numbers[1]) if ends else abs(numbers[0])
    decimals = min(max(2 - math.ceil(math.log10(width)), 0), _MOST_DECIMALS) if width > 0.0 else 1
    texts = [f"{number:+,.{decimals}f}" for number in numbers]
    unit = " points" if percent else ""
    return f"{texts[0]}{unit}" + (f" (95%: {texts[1]} to {texts[2]})" if ends else "")


def counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def moment(at: datetime, now: datetime) -> str:
    """'at 14:32 UTC' today, '3 December' this year, '3 December 2027' in another."""
    if at.date() == now.date():
        return f"at {at:%H:%M} UTC"
    day = f"{at.day} {at:%B}"
    return day if at.year == now.year else f"{day} {at.year}"


def when(at: datetime, now: datetime) -> str:
    """A moment as a sentence's adverb: 'at 14:32 UTC', 'on 3 December'."""
    said = moment(at, now)
    return said if said.startswith("at ") else f"on {said}"


def range_of_days(first: datetime, last: datetime, now: datetime) -> str:
    """'about 3 December', 'between 3 and 9 December', 'today'; empty where it is too far."""
    if last - now > _FAR:
        return "" if first - now > _FAR else f"{moment(first, now)} or later"
    if last.date() == now.date():
        return "today"
    if first.date() == last.date():
        return f"about {moment(last, now)}"
    if first.date() == now.date():
        return f"between today and {moment(last, now)}"
    if (first.year, first.month) == (last.year, last.month):
        return f"between {first.day} and {moment(last, now)}"
    return f"between {moment(first, now)} and {moment(last, now)}"
