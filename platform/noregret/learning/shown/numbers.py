"""Numbers as people read them, one form a kind of reward: rates in per cent and their differences
in points, other values with separators, and from a million on
in M (millions), bn (billions) and tn.

Values that are compared with one another share a unit: whoever writes some of them by themselves
hands over the form of what stands beside (`beside`)."""

import math
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

_MOST_DECIMALS = 6
_MOST_OF_RATES = 4
_SMALL = 1e-4
"""Where all values are below it, and no rates, all are written with one exponent."""
_NOTHING = 1e-9
"""What is left of sums that are equal: no difference."""
_PRECISION = 1e-12
"""What is less of a value is an error of its sum."""
_MOST_EVIDENCE = 1e15
_SCALES = ((1e12, "tn"), (1e9, "bn"), (1e6, "M"))
_MOST_SCALED = 3
"""Values that take more decimals to be told apart are written out, with separators."""

Ends = tuple[float, float]


class Form(Struct, frozen=True):
    """How values beside each other are written: in units of `scale`, with so many decimals."""

    decimals: int
    scale: float = 1.0
    unit: str = ""

    def number(self, value: float, *, sign: bool = False) -> str:
        """Without its unit. What is rounded to nothing has no sign."""
        scaled = value / self.scale
        if round(scaled, self.decimals) == 0.0:
            return f"{0.0:.{self.decimals}f}"
        return f"{scaled:{'+' if sign else ''},.{self.decimals}f}"

    def text(self, value: float, *, sign: bool = False) -> str:
        return f"{self.number(value, sign=sign)}{self.unit}"

    def at_least(self, value: float) -> str:
        """The same, and 'under' the smallest that can be seen for what is less and not nothing."""
        if value and not round(value / self.scale, self.decimals):
            return f"under {self.text(self.scale * 10.0**-self.decimals)}"
        return self.text(value)


def form(
    numbers: Sequence[float], *, percent: bool, apart: float = 0.0, least: int = 1, beside: Form | None = None
) -> Form:
    """A form in which values that lie `apart` look different; without it, of three figures. A rate
    has `least` decimals; anything else has the unit of `beside`, where that is given."""
    most = max((abs(number) for number in numbers), default=0.0)
    if percent:
        return Form(min(max(_decimals(100.0 * most, 100.0 * apart), least), _MOST_OF_RATES), 0.01, "%")
    if beside is not None:
        decimals = _decimals(most / beside.scale, apart / beside.scale)
        return Form(min(max(decimals, 0), _MOST_DECIMALS), beside.scale, beside.unit)
    if 0.0 < most < _SMALL:
        exponent = math.floor(math.log10(most))
        scale = 10.0**exponent
        return Form(min(max(_decimals(most / scale, apart / scale), 0), _MOST_DECIMALS), scale, f"e{exponent}")
    for scale, unit in _SCALES:
        decimals = _decimals(most / scale, apart / scale)
        if most >= scale and decimals <= _MOST_SCALED:
            return Form(max(decimals, 0), scale, f" {unit}")
    return Form(min(max(_decimals(most, apart), 0), _MOST_DECIMALS))


def _decimals(most: float, apart: float) -> int:
    if apart > 0.0:
        return math.ceil(-math.log10(apart))
    return 2 - math.ceil(math.log10(most)) if most > 0.0 else 0


def values(numbers: Sequence[float], *, percent: bool, least: int = 1, beside: Form | None = None) -> list[str]:
    """Values beside each other, with as many decimals as tell them apart, and how many times one is
    the other; of a rate in per cent."""
    gaps = [after - before for before, after in pairwise(sorted(set(numbers)))]
    apart = min(*gaps, _of_ratio(numbers)) if gaps else 0.0
    shaped = form(numbers, percent=percent, apart=apart, least=least, beside=beside)
    if not percent:
        shaped = _seen(numbers, shaped)
    # A rate that stands alone may be too small to be seen, and is no 0 then.
    return [shaped.text(number) if gaps else shaped.at_least(number) for number in numbers]


def _of_ratio(numbers: Sequence[float]) -> float:
    """How fine values must be told for their ratio to be seen: the smallest to a sixth of itself,
    but the largest in no more than four figures for it."""
    sizes = [abs(number) for number in numbers if number]
    return max(0.34 * min(sizes), 1e-3 * max(sizes))


def column(rows: Sequence[tuple[float, Ends | None]], *, percent: bool, beside: Form | None = None) -> Form:
    """The form of means with their intervals, one a row: alike in the whole column. As fine as the
    surest interval, but no finer than a ten-thousandth of all that the column spans."""
    known = [number for mean, ends in rows for number in (mean, *(ends or ()))]
    widths = [ends[1] - ends[0] for _, ends in rows if ends is not None and ends[1] > ends[0]]
    if not widths:
        return form(known, percent=percent, beside=beside)
    noise = _PRECISION * max(abs(number) for number in known)
    apart = max(min(widths) / 4.0, 1e-4 * (max(known) - min(known)), noise)
    return form(known, percent=percent, apart=apart, beside=beside)


def unit_of_differences(rows: Sequence[tuple[float, Ends | None]]) -> Form:
    """What differences that are no rates are written in, with their intervals, one a row."""
    known = [number for value, ends in rows for number in (value, *(ends or ()))]
    widths = [ends[1] - ends[0] for _, ends in rows if ends is not None and ends[1] > ends[0]]
    return form(known, percent=False, apart=min(widths, default=0.0) / 10.0)


def difference(value: float, ends: Ends | None, *, percent: bool, beside: Form | None = None) -> str:
    """A difference of means with its interval: '+1.1 points (95%: +0.3 to +1.9)'."""
    return _signed(value, ends, " points" if percent else "", percent=percent, beside=beside)


def amount(value: float, ends: Ends | None, what: str, *, beside: Form | None = None) -> str:
    """What was earned more or less in all: '+120 rewards (95%: +20 to +220)'."""
    return _signed(value, ends, f" {what}", percent=False, beside=beside)


def _of_differences(numbers: Sequence[float], *, percent: bool, beside: Form | None) -> Form:
    """As many decimals as its interval is sure of, and a few more where an end would vanish."""
    width = max(numbers) - min(numbers) if len(numbers) > 1 else abs(numbers[0])
    shaped = form(numbers, percent=percent, apart=width / 10.0, least=0 if width else 1, beside=beside)
    seen = _seen(numbers, shaped)
    return Form(seen.decimals, seen.scale, "" if percent else seen.unit)


def _seen(numbers: Sequence[float], shaped: Form) -> Form:
    """With a few more decimals where one would be written as 0 that is not."""

    def shows_all(decimals: int) -> bool:
        return all(not number or round(number / shaped.scale, decimals) for number in numbers)

    more = next((more for more in range(3) if shows_all(shaped.decimals + more)), 0)
    return Form(min(shaped.decimals + more, _MOST_DECIMALS), shaped.scale, shaped.unit)


def _signed(value: float, ends: Ends | None, unit: str, *, percent: bool, beside: Form | None) -> str:
    numbers = [0.0 if abs(number) < _NOTHING else number for number in (value, *(ends or ()))]
    shaped = _of_differences(numbers, percent=percent, beside=beside)
    texts = [shaped.text(number, sign=True) for number in numbers]
    return f"{texts[0]}{unit}" + (f" (95%: {texts[1]} to {texts[2]})" if ends else "")


def evidence(value: float) -> str:
    """Three figures of what multiplies with each decision; past a thousand tn they say nothing."""
    return "over 1,000 tn" if value >= _MOST_EVIDENCE else alone(value, 3)


def alone(value: float, figures: int = 4) -> str:
    """A value that stands beside no other, in so many figures."""
    return plain(float(f"{value:.{figures}g}"))


def plain(value: float, *, percent: bool = False) -> str:
    """A value that somebody wrote, as they did: 0.02, 1,500, '1 bn', '2%'."""
    if percent:
        return f"{100.0 * value:,.10g}%"
    unit = plain_unit(value)
    return f"{value / unit.scale:,.15g}{unit.unit}"


def plain_unit(value: float) -> Form:
    """The unit in which `plain` writes it, for what is told beside it."""
    for scale, unit in _SCALES:
        if abs(value) >= scale and round(value / scale, _MOST_SCALED) == value / scale:
            return Form(_MOST_SCALED, scale, f" {unit}")
    return Form(0)


def against(value: float, limit: float) -> str:
    """What was measured, beside a limit that somebody wrote: in its unit, of four figures, and of
    more where it would look like the limit and is not."""
    unit = plain_unit(limit)
    rounded = (float(f"{value:.{figures}g}") for figures in range(4, 16))
    told = next((one for one in rounded if one != limit), value)
    return f"{told / unit.scale:,.15g}{unit.unit}"
