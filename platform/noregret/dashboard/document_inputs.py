"""The input for one value of a document, by its type.

What is left empty is not given: its default is shown, and never sent.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.forms.widgets import Widget
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from msgspec import UNSET
from msgspec.inspect import BoolType, DateTimeType, FloatType, IntType, ListType, LiteralType, StrType
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from serving import strict_json

from .document_parts import Kind, Leaf
from .expectations import amount, bounds, json_in_words, plain_number

_CODE = re.compile(r"`([^`]+)`")


def with_code(text: str) -> SafeString:
    """A sentence of a docstring or a description, its names in backticks as code."""
    return mark_safe(_CODE.sub(r"<code>\1</code>", escape(text)))  # noqa: S308  # escaped before


class JSONText(forms.CharField):
    """Any value, as JSON: as strict as the API's."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return strict_json.loads(text.encode("utf-8", "surrogatepass"))
        except strict_json.InvalidJSON as error:
            raise ValidationError(json_in_words(text, error)) from error


def _say_bounds(field: forms.IntegerField, unit: str) -> None:
    """Django's own words for bounds are replaced by those of documents."""
    for validator in field.validators:
        if isinstance(validator, MinValueValidator | MaxValueValidator):
            words = "At least" if isinstance(validator, MinValueValidator) else "At most"
            said = f"{words} {amount(validator.limit_value, unit)} was expected."
            validator.message = said.replace("%", "%%")  # Django puts values into it


class Number(forms.FloatField):
    """As a person types it. `unit`: `share`, `seconds` or nothing."""

    def __init__(self, *, unit: str = "", **options: Any) -> None:
        self.unit = unit
        super().__init__(widget=options.pop("widget", None) or forms.TextInput(), **options)
        _say_bounds(self, unit)

    def to_python(self, value: Any) -> float | None:  # type: ignore[override]  # Django's floats are integers too
        text = str(value or "").strip()
        return float(plain_number(text, self.unit)) if text else None


class Whole(forms.IntegerField):
    """A whole number as a person types it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=options.pop("widget", None) or forms.TextInput(), **options)
        _say_bounds(self, "")

    def to_python(self, value: Any) -> int | None:
        text = str(value or "").strip()
        return int(plain_number(text, "", whole=True)) if text else None


class Lines(forms.CharField):
    """Several values, one a line; empty lines are none."""

    def __init__(self, item: forms.Field, **options: Any) -> None:
        self.item = item
        super().__init__(**options)

    def clean(self, value: Any) -> Any:
        values = []
        for number, line in enumerate(super().clean(value).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                values.append(self.item.clean(line))
            except ValidationError as error:
                raise ValidationError([f"Line {number}: {message}" for message in error.messages]) from error
        return values


class UTCTime(forms.CharField):
    """A point in time; one without an offset is UTC."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValidationError("A date and a time were expected, as 2030-01-31T12:00.") from error
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def input_for(leaf: Leaf, *, choices: Iterable[tuple[str, str]] | None, datalist: str | None) -> forms.Field:
    """A field that takes this value, and is never required itself: what is filled in decides that.

    `choices`: what a text is chosen from. `datalist`: the id of what is suggested for it.
    """
    only = leaf.options[0] if len(leaf.options) == 1 else None
    attributes = {"placeholder": _placeholder(leaf)}
    if datalist is not None:
        attributes |= {"list": datalist, "autocomplete": "off"}
    options: dict[str, Any] = {
        "required": False,
        "label": leaf.name.replace("_", " ").capitalize(),
        "help_text": with_code(_help(leaf, only)),
    }
    if choices is not None:
        return forms.ChoiceField(choices=[_nothing(leaf), *choices], widget=UnfoldAdminSelectWidget(), **options)
    match only:
        case LiteralType(values=values):
            return _choice(leaf, {str(value): (str(value), value) for value in values}, options)
        case BoolType():
            return _choice(leaf, {"true": ("yes", True), "false": ("no", False)}, options)
        case IntType() | FloatType() | StrType():
            return _plain(only, leaf.unit, UnfoldAdminTextInputWidget(attrs=attributes | _keyboard(only)), options)
        case DateTimeType():
            return UTCTime(widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local", "step": "1"}), **options)
        case ListType(item_type=IntType() | FloatType() | StrType() as item):
            widget = UnfoldAdminTextareaWidget(attrs=attributes | {"rows": 4})
            return Lines(_plain(item, leaf.unit, None, {"required": False}), widget=widget, **options)
        case _:
            return JSONText(widget=UnfoldAdminTextareaWidget(attrs=attributes | {"rows": 2}), **options)


def _choice(leaf: Leaf, offered: dict[str, tuple[str, Any]], options: dict[str, Any]) -> forms.Field:
    """`offered`: for the text that is sent, what is shown and the value."""
    choices = [_nothing(leaf), *((text, shown) for text, (shown, _) in offered.items())]
    values = {text: value for text, (_, value) in offered.items()}
    return forms.TypedChoiceField(
        choices=choices, coerce=values.__getitem__, widget=UnfoldAdminSelectWidget(), **options
    )


def _plain(kind: Kind, unit: str, widget: Widget | None, options: dict[str, Any]) -> forms.Field:
    match kind:
        case IntType():
            return Whole(widget=widget, **options)
        case FloatType():
            return Number(unit=unit, widget=widget, **options)
        case _:
            return forms.CharField(widget=widget, **options)


def _keyboard(kind: Kind) -> dict[str, str]:
    """Which keys a phone shows; a number below 0 needs those of a text."""
    if isinstance(kind, IntType | FloatType) and (kind.ge is not None or kind.gt is not None):
        return {"inputmode": "numeric" if isinstance(kind, IntType) else "decimal"}
    return {}


def _nothing(leaf: Leaf) -> tuple[str, str]:
    if leaf.required:
        return "", "Choose"
    said = _said(leaf.default)
    return "", f"Default: {said}" if said else "Not given"


def _placeholder(leaf: Leaf) -> str:
    return "" if leaf.required else _said(leaf.default)


def _said(default: Any) -> str:
    """A default as a person would type it; nothing for none."""
    if default is None or default is UNSET or default == {}:
        return ""
    match default:
        case bool():
            return "yes" if default else "no"
        case float():
            return f"{default:g}"
        case list():
            return "\n".join(_said(item) for item in default)
        case str() | int():
            return str(default)
        case _:
            return msgspec.json.encode(default).decode()


def _help(leaf: Leaf, only: Kind | None) -> str:
    sentences = [leaf.description]
    match only:
        case IntType() | FloatType():
            sentences.append(_range(only, leaf.unit))
        case DateTimeType():
            sentences.append("UTC.")
        case ListType(item_type=IntType() | FloatType() | StrType() as item):
            sentences.append("One a line.")
            if not isinstance(item, StrType):
                sentences.append(_range(item, leaf.unit))
        case LiteralType() | BoolType() | StrType():
            pass
        case _:
            sentences.append("JSON.")
    return " ".join(sentence for sentence in sentences if sentence)


def _range(kind: IntType | FloatType, unit: str) -> str:
    said = bounds(kind, unit)
    begins = {"share": "A share, as 0.05 or 5 %", "seconds": "In seconds"}.get(unit, "")
    told = f"{begins}: {said}" if begins and said else begins or said
    return f"{told[:1].upper()}{told[1:]}." if told else ""
