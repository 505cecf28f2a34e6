"""A document as a person would have typed it into its form: by the names of the inputs, without
what is its default anyhow."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.inspect import DateTimeType, FloatType, IntType, ListType, LiteralType, StrType

from .document_parts import Leaf, Part, Rows, part_of


def typed(document: msgspec.Struct) -> dict[str, str]:
    """What its form holds."""
    kind = type(document)
    inputs: dict[str, str] = {}
    _type(part_of(kind), "", msgspec.to_builtins(document), inputs)
    return inputs


def _type(part: Part, path: str, values: dict[str, Any], inputs: dict[str, str]) -> None:
    for member in part.members:
        value = values.get(member.name)
        at = f"{path}.{member.name}" if path else member.name
        match member:
            case _ if value is None:
                continue
            case Leaf():
                if member.required or value != msgspec.to_builtins(_plain(member.default)):
                    inputs[at] = _text(member, value)
            case Part():
                _type(member, at, value, inputs)
            case Rows():
                for number, item in enumerate(value):
                    _type(member.item, f"{at}[{number}]", item, inputs)


def _plain(default: Any) -> Any:
    return None if default is UNSET else default


def _text(leaf: Leaf, value: Any) -> str:
    match leaf.options:
        case (DateTimeType(),):
            return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None).isoformat()
        case (ListType(item_type=IntType() | FloatType() | StrType()),):
            return "\n".join(_scalar(item) for item in value)
        case (IntType() | FloatType() | StrType() | LiteralType(),):
            return _scalar(value)
    return msgspec.json.encode(value).decode()


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
