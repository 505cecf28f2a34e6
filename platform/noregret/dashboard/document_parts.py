"""A document's type as a form has it: leaves to fill in, parts that hold leaves, and rows of parts.

Everything is read from the Struct: a field that is added to a document is added to its form.
"""

import inspect
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import NODEFAULT, UNSET
from msgspec.inspect import FloatType, ListType

from noregret.registry.frameworks.fields import options_of

Kind = msgspec.inspect.Type


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value. `annotation`: its declared type, with bounds; `options`: the types in it, not
    null."""

    name: str
    annotation: Any
    options: tuple[Kind, ...]
    required: bool
    default: Any
    """UNSET where the document says nothing."""
    description: str

    @property
    def unit(self) -> str:
        """`seconds`, `ms`, `share` of what is whole with 1, or nothing. What may be no less than 0
        and no more than 1 is a share."""
        named = next((unit for unit in ("seconds", "ms") if self.name.endswith(f"_{unit}")), "")
        if named:
            return named
        only = self.options[0] if len(self.options) == 1 else None
        kind = only.item_type if isinstance(only, ListType) else only
        if not isinstance(kind, FloatType):
            return ""
        low = kind.ge if kind.gt is None else kind.gt
        high = kind.le if kind.lt is None else kind.lt
        return "share" if low == 0 and high is not None and high <= 1 else ""


@dataclass(frozen=True, slots=True)
class Part:
    """A document within the document."""

    name: str
    explanation: str
    required: bool
    members: "tuple[Leaf | Part | Rows, ...]"


@dataclass(frozen=True, slots=True)
class Rows:
    """A list of documents. `limit`: how many at most; None: any number."""

    name: str
    explanation: str
    required: bool
    limit: int | None
    item: Part
    """Named after its type, as `Guardrail`."""


Member = Leaf | Part | Rows


def part_of(
    document: type[msgspec.Struct], name: str = "", *, required: bool = True, within_rows: bool = False
) -> Part:
    """A Struct's fields, in order. Rows do not nest: within them a list of documents is a leaf."""
    described = msgspec.inspect.type_info(document)
    assert isinstance(described, msgspec.inspect.StructType)
    annotations = {field.encode_name: field.type for field in msgspec.structs.fields(document)}
    members = tuple(
        _member(field, annotations[field.encode_name], within_rows=within_rows) for field in described.fields
    )
    return Part(name, inspect.getdoc(document) or "", required, members)


def _member(field: msgspec.inspect.Field, annotation: Any, *, within_rows: bool) -> Member:
    name = field.encode_name
    description, options = options_of(field.type)
    options = tuple(option for option in options if not isinstance(option, msgspec.inspect.NoneType))
    match options:
        case (msgspec.inspect.StructType(cls=kind),):
            part = part_of(kind, name, required=field.required, within_rows=within_rows)
            return replace(part, explanation=description) if description else part
        case (msgspec.inspect.ListType(item_type=msgspec.inspect.StructType(cls=kind), max_length=limit),):
            if not within_rows:
                item = part_of(kind, kind.__name__, within_rows=True)
                return Rows(name, description or item.explanation, field.required, limit, item)
    return Leaf(name, annotation, options, field.required, _default(field), description)


def _default(field: msgspec.inspect.Field) -> Any:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return UNSET if field.default is NODEFAULT else field.default
