"""Which arm for whom, as a page draws it: coefficients of each arm on one axis, and the share that
each arm gets of each part of the traffic. Places are per cent of a picture's width; a template
makes SVG of them."""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

from msgspec import Struct

from noregret.learning.shown.coefficients import ArmEffect, Coefficients
from noregret.learning.shown.segments import Segment, Segments

from .drawn import Axis, Mark, axis
from .verdicts import told

COLOURS = 7
NAMED = 3
"""Arms whose share is written beside a bar."""
MOST_BARS = 12
"""Parts of the traffic that are drawn: those of the fields on which arms differ most surely."""


class Effect(Struct, frozen=True):
    """Of one arm: `colour` is its position; the mark is empty where it is not known."""

    arm: str
    colour: int
    text: str
    mark: Mark


class Part(Struct, frozen=True):
    label: str
    effects: list[Effect]


class Effects(Struct, frozen=True):
    """Coefficients on one axis with 0. `help`: what they are, in sentences; `missing`: why there is
    none."""

    id: ClassVar[str] = "coefficients"
    parts: list[Part]
    axis: Axis | None
    arms: list[tuple[str, int]]
    help: str
    missing: str
    told: Coefficients

    def csv(self) -> Iterator[list[str]]:
        yield ["field", "part", "arm", "effect", "low", "high", "unit"]
        for part in self.told.parts:
            for one in part.effects:
                ends = ("", "") if one.interval is None else tuple(repr(end) for end in one.interval)
                value = "" if one.value is None else repr(one.value)
                yield [part.field, part.part, one.arm, value, *ends, self.told.unit]


def effects_of(found: Coefficients, arms: Sequence[str], *, percent: bool) -> Effects:
    """`arms`: every arm's name by position. `percent`: rewards are rates, told in points."""
    colours = {name: i % COLOURS for i, name in enumerate(arms)}
    shown = [one for part in found.parts for one in part.effects]
    ends = [end for one in shown for end in one.interval or ()]
    beside = told.unit_of_differences([(one.value, one.interval) for one in shown if one.value is not None])
    rates = percent and found.unit == "reward"
    drawn = None if found.missing else axis(ends, percent=rates, reference=0.0, beside=beside)
    names = [one.arm for one in found.parts[0].effects] if found.parts else []
    return Effects(
        parts=[
            Part(
                f"{part.field}: {part.part}",
                [
                    Effect(one.arm, colours.get(one.arm, 0), _text(one, found, beside, percent), _mark(one, drawn))
                    for one in part.effects
                ],
            )
            for part in found.parts
        ],
        axis=drawn,
        arms=[(name, colours.get(name, 0)) for name in names],
        help=_help(found, len(names)),
        missing=found.missing,
        told=found,
    )


def _mark(one: ArmEffect, drawn: Axis | None) -> Mark:
    return Mark() if drawn is None else drawn.mark(one.value, one.interval)


def _text(one: ArmEffect, found: Coefficients, beside: told.Form, percent: bool) -> str:
    if one.value is None or one.interval is None:
        return "not known: no reward yet"
    if found.unit == "reward":
        return told.difference(one.value, one.interval, percent=percent, beside=beside)
    middle, low, high = (_factor(value) for value in (one.value, *one.interval))
    return f"odds × {middle} (95%: × {low} to × {high})"


def _factor(log_odds: float) -> str:
    return f"{math.exp(min(max(log_odds, -20.0), 20.0)):.3g}"


def _help(found: Coefficients, arms: int) -> str:
    what = (
        "How much more reward the arm earns"
        if found.unit == "reward"
        else "By how much the odds of a good outcome change (the axis has their logarithm)"
    )
    said = (
        f"{what}, as the policy's own models have it: for a category's value against the average of the field's values, "
        "for a number from its least to its greatest. Where arms lie apart, the field tells which is for whom; "
        "a field that moves all alike tells nothing. Intervals are 95%, right at one moment."
    )
    if found.parts_in_all > len(found.parts):
        said += f" Shown are the {len(found.parts)} of {found.parts_in_all:,} on which arms differ most surely."
    if found.arms_in_all > arms and arms:
        said += f" Of {found.arms_in_all:,} arms those with most rewards."
    return said


class Piece(Struct, frozen=True):
    """An arm's share of a bar."""

    arm: str
    colour: int
    x: str
    width: str
    text: str


class Bar(Struct, frozen=True):
    """A part of the traffic, and who got it. `most`: who got most of it, in words; `said`: all of
    it."""

    label: str
    decisions: str
    pieces: list[Piece]
    most: str
    said: str


class Shares(Struct, frozen=True):
    """`more`: how many parts are in the table alone."""

    id: ClassVar[str] = "for-whom"
    bars: list[Bar]
    arms: list[tuple[str, int]]
    more: int
    told: Segments

    def csv(self) -> Iterator[list[str]]:
        yield ["field", "part", "decisions", "arm", "share", "loss", "low", "high"]
        for part in self.told.segments:
            for one in part.losses:
                ends = ("", "") if one.interval is None else tuple(repr(end) for end in one.interval)
                loss = "" if one.loss is None else repr(one.loss)
                yield [part.field, part.segment, str(part.decisions), one.arm, repr(one.chosen), loss, *ends]


def shares_of(found: Segments, coefficients: Coefficients | None, arms: Sequence[str]) -> Shares:
    """Fields in the order of their coefficients."""
    first = {part.field: i for i, part in reversed(list(enumerate(() if coefficients is None else coefficients.parts)))}
    ordered = sorted(found.segments, key=lambda part: first.get(part.field, len(first) + MOST_BARS))
    names = [(name, i % COLOURS) for i, name in enumerate(arms)]
    bars = [_bar(part, dict(names)) for part in ordered[:MOST_BARS]]
    return Shares(bars, names, max(len(ordered) - MOST_BARS, 0), found)


def _bar(part: Segment, colours: dict[str, int]) -> Bar:
    pieces, at = [], 0.0
    for one in part.losses:
        if one.chosen > 0.0:
            place, width = f"{100.0 * at:.2f}%", f"{100.0 * one.chosen:.2f}%"
            pieces.append(Piece(one.arm, colours.get(one.arm, 0), place, width, f"{one.arm} {one.chosen:.1%}"))
        at += one.chosen
    label = f"{part.field}: {part.segment}"
    said = f"{label}: {', '.join(piece.text for piece in pieces)}"
    most = sorted(part.losses, key=lambda one: -one.chosen)[:NAMED]
    named = ", ".join(f"{one.arm} {one.chosen:.1%}" for one in most)
    return Bar(label, f"{part.decisions:,}", pieces, named, said)
