"""Numbers and dates as the page's sentences write them. Reads nothing."""

from datetime import datetime, timedelta

from noregret.learning.shown.numbers import (
    Form,
    amount,
    column,
    difference,
    evidence,
    plain,
    unit_of_differences,
    values,
)

__all__ = [
    "Form",
    "amount",
    "column",
    "counted",
    "difference",
    "evidence",
    "moment",
    "plain",
    "range_of_days",
    "unit_of_differences",
    "values",
]

_FAR = timedelta(days=366)
"""No traffic holds for longer: a date beyond it is not told."""


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
