"""What a value of a document must be, in words for the one who types it: beside its input, and
where it was refused. Units are those of the document: seconds, and shares from 0 to 1."""

import json
import re
from decimal import Decimal
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from msgspec.inspect import DictType, FloatType, IntType, ListType, StrType

from noregret.names import ModelRef, Name
from serving import strict_json
from serving.api.bodies import field_error

from .document_parts import Kind, Leaf, part_of

_PERCENT = re.compile(r"(.*\S)\s*%")
_DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+)")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


def _pattern(annotation: Any) -> str | None:
    described = msgspec.inspect.type_info(annotation)
    while isinstance(described, msgspec.inspect.Metadata):
        described = described.type
    return described.pattern if isinstance(described, StrType) else None


_PATTERNS = {
    _pattern(
        Name
    ): "a name was expected: at most 63 of a to z, 0 to 9, “.”, “_” and “-”, with a letter or a digit first, "
    "as checkout-2",
    _pattern(ModelRef): "a model version was expected: a name, @ and a version, as digits@2",
}


def plain_number(text: str, unit: str, *, whole: bool = False) -> str:
    """A number as a person types it, as Python reads it: with a decimal comma where that can mean
    nothing else, and of a share with a percent sign. Raises ValidationError that says what was
    expected."""
    text = text.strip()
    percent = _PERCENT.fullmatch(text)
    if percent is not None and unit != "share":
        raise ValidationError(f"A number without % was expected, as {'100' if whole else '0.05 for 5 %'}.")
    number = text if percent is None else percent[1]
    if _GROUPED.fullmatch(number) and (unit != "share" or percent is None):
        plain = number.replace(",", "")
        other = "" if whole or number.count(",") > 1 else f", or {number.replace(',', '.')} if the comma parts decimals"
        raise ValidationError(f"A number without commas was expected: {plain}{other}.")
    if not whole and (comma := _DECIMAL_COMMA.fullmatch(number)):
        number = f"{comma[1]}.{comma[2]}"
    try:
        value = Decimal(number)
        if not value.is_finite() or abs(value) > Decimal("1e308") or (whole and not re.fullmatch(r"[+-]?\d+", number)):
            raise ValueError
    except (ArithmeticError, ValueError) as error:
        kind = "A whole number was expected, as 100" if whole else f"A number was expected, as {_example(unit)}"
        raise ValidationError(f"{kind}.") from error
    return number if percent is None else str(value / 100)


def _example(unit: str) -> str:
    return {"share": "0.05 or 5 %", "seconds": "3600 for an hour"}.get(unit, "0.05")


def bounds(kind: IntType | FloatType, unit: str) -> str:
    """Within which bounds it may be; nothing where it has none."""
    found = [f"{words} {amount(bound, unit)}" for words, bound in _bounds(kind) if bound is not None]
    return " and ".join(found)


def _bounds(kind: IntType | FloatType) -> tuple[tuple[str, float | None], ...]:
    return ("more than", kind.gt), ("at least", kind.ge), ("less than", kind.lt), ("at most", kind.le)


def amount(value: float, unit: str) -> str:
    """0.9 is '0.9 (90 %)', 7776000 seconds are '7,776,000 seconds (90 days)'."""
    if unit == "share":
        return f"{value:g} ({100 * value:g} %)" if value else "0"
    if unit == "seconds":
        plain = f"{value:,.15g} second{'' if value == 1 else 's'}"
        return f"{plain} ({long_span(value)})" if value >= 60 else plain
    return f"{value:,.15g} ms" if unit == "ms" else f"{value:,.15g}"


def long_span(seconds: float) -> str:
    """In its largest whole unit, by its name: '90 days', '90 minutes', '1.5 seconds'."""
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:,.0f} {name}{'' if seconds == size else 's'}"
    return f"{seconds:,.15g} second{'' if seconds == 1 else 's'}"


def refusal(leaf: Leaf, value: Any, message: str) -> str:
    """Why a value can't be used; msgspec's own `message` where its type has no words here."""
    if len(leaf.options) != 1:
        return message
    return _refusal(leaf.options[0], value, leaf.unit) or message


def _refusal(kind: Kind, value: Any, unit: str) -> str:
    match kind:
        case IntType() | FloatType() if isinstance(value, int | float):
            return _out_of_bounds(kind, value, unit)
        case StrType(pattern=pattern) if pattern in _PATTERNS:
            return _PATTERNS[pattern]
        case StrType(max_length=most) if most is not None and len(str(value)) > most:
            return f"at most {most:,} characters were expected: these are {len(str(value)):,}"
        case ListType(item_type=item, max_length=most) if isinstance(value, list):
            if most is not None and len(value) > most:
                return f"at most {most:,} lines were expected: these are {len(value):,}"
            return next((said for each in value if (said := _refusal(item, each, unit))), "")
        case DictType():
            return 'an object in braces was expected, as {"epsilon": 0.1}'
    return ""


def _out_of_bounds(kind: IntType | FloatType, value: float, unit: str) -> str:
    broken = {
        "more than": kind.gt is not None and not value > kind.gt,
        "at least": kind.ge is not None and value < kind.ge,
        "less than": kind.lt is not None and not value < kind.lt,
        "at most": kind.le is not None and value > kind.le,
    }
    for words, bound in _bounds(kind):
        if bound is not None and broken[words]:
            meant = (
                f": for {value:g} per cent write {value / 100:g} or {value:g} %"
                if unit == "share" and 1 < value <= 100 and not _out_of_bounds(kind, value / 100, "")
                else ""
            )
            return f"{words} {amount(bound, unit)} was expected{meant}"
    return ""


def json_in_words(text: str, error: strict_json.InvalidJSON) -> str:
    """What is wrong with a text that should be JSON."""
    cause = error.__cause__
    if not isinstance(cause, json.JSONDecodeError):
        return f"This can't be used as JSON: {error}."
    where = f"line {cause.lineno}, character {cause.colno}"
    if cause.pos >= len(text.rstrip()):
        return f"This is no JSON: it ends at {where}, and a value, a bracket or a quotation mark is missing."
    said = next(
        (words for begin, words in _JSON.items() if cause.msg.startswith(begin)), "it can't be read from here on"
    )
    return f"This is no JSON: at {where} {said}."


_JSON = {
    "Expecting property name": 'a name in double quotes was expected, as {"epsilon": 0.1}',
    "Expecting value": 'a value was expected: a text in double quotes, as "blue", a number, true, false, null, a list or an object',
    "Expecting ',' delimiter": "a comma was expected",
    "Expecting ':' delimiter": "a colon was expected",
    "Extra data": "something stands behind its end",
    "Unterminated string": "a text begins whose closing quotation mark is missing",
    "Illegal trailing comma": "a comma stands before a closing bracket",
}


def refused_field(document: type[msgspec.Struct], values: Any, error: msgspec.ValidationError) -> tuple[str, str]:
    """(field, why) of flat values that are no such document."""
    told = field_error(str(error))
    leaf = next((each for each in part_of(document).members if each.name == told["field"]), None)
    known = isinstance(leaf, Leaf) and told["field"] in values
    return told["field"], refusal(leaf, values[told["field"]], told["message"]) if known else told["message"]  # type: ignore[arg-type]  # known says that it is one
