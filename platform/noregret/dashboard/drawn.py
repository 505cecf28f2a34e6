"""Intervals drawn on one axis, as places in per cent of its width: a template makes SVG of them,
without a script and without a style."""

import math
from collections.abc import Sequence

from msgspec import Struct

from .verdicts import told

Ends = tuple[float, float] | None
_TICKS = 4
_SHORT = 4
"""Of longer texts, or of many, every second stands at an axis: a table's is narrow."""
_MARGIN = 0.06


class Mark(Struct, frozen=True):
    """What is drawn for one row, each place in per cent: the middle, the interval, the wider
    interval. Empty where it is not known."""

    middle: str = ""
    low: str = ""
    high: str = ""
    wide_low: str = ""
    wide_high: str = ""


class Axis(Struct, frozen=True):
    """`ticks`: (place, text, anchor). `reference`: the place of the line through all rows; empty
    where there is none."""

    ticks: list[tuple[str, str, str]]
    reference: str
    low: float
    high: float

    def place(self, value: float) -> str:
        """In per cent of the axis, within it."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100.0 * min(max(share, 0.0), 1.0):.2f}%"

    def mark(self, middle: float | None, ends: Ends, wide: Ends = None) -> Mark:
        if middle is None:
            return Mark()
        low, high = (self.place(end) for end in ends) if ends else ("", "")
        wide_low, wide_high = (self.place(end) for end in wide) if wide else ("", "")
        return Mark(self.place(middle), low, high, wide_low, wide_high)


def axis(
    numbers: Sequence[float], *, percent: bool, reference: float | None = None, beside: told.Form | None = None
) -> Axis | None:
    """An axis around these values; None for none. `percent`: its texts are rates; `beside`: how the
    values themselves are written."""
    known = [*numbers, *([] if reference is None else [reference])]
    if not known:
        return None
    least, most = min(known), max(known)
    margin = _MARGIN * (most - least) or abs(most) * 0.05 or 0.5
    low, high = least - margin, most + margin
    drawn = Axis([], "", low, high)
    at = ticks(low, high)
    texts = told.values(at, percent=percent, least=0, beside=beside)
    if max(map(len, texts)) > _SHORT or len(texts) > _TICKS:
        at, texts = at[::2], texts[::2]
    places = [(drawn.place(value), text) for value, text in zip(at, texts, strict=True)]
    anchored = [
        (place, text, "start" if float(place[:-1]) < 8 else "end" if float(place[:-1]) > 92 else "middle")
        for place, text in places
    ]
    return Axis(anchored, "" if reference is None else drawn.place(reference), low, high)


def ticks(low: float, high: float) -> list[float]:
    """A few round values within an axis: three at least."""
    least = (high - low) / _TICKS
    size = 10.0 ** math.floor(math.log10(least))
    steps = [size * times for times in (0.5, 1.0, 2.0, 5.0, 10.0)]
    fits = next(i for i, step in enumerate(steps) if step >= least)
    at = _within(steps[fits], low, high)
    return at if len(at) > 2 else _within(steps[fits - 1], low, high)


def _within(step: float, low: float, high: float) -> list[float]:
    """Its multiples."""
    first = math.ceil(low / step)
    return [step * (first + i) for i in range(2 * _TICKS + 2) if step * (first + i) <= high]
