"""The fields of a definition as a form has them: a file, a text, or JSON. The API's multipart form
and the admin's are made of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from .protocol import Definition

COMMON = ("name", "version", "framework")


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: Literal["file", "text", "json"]
    required: bool
    description: str
    choices: tuple[str, ...] = ()  # of a text: the only ones that are taken


def own_fields(definition: type[Definition]) -> Mapping[str, Field]:
    """The fields of a definition that not every framework has, by name."""
    described = msgspec.inspect.type_info(definition)
    assert isinstance(described, msgspec.inspect.StructType)
    return {
        field.name: _field(field.name, field.type, required=field.required)
        for field in described.fields
        if field.name not in COMMON
    }


def options_of(kind: msgspec.inspect.Type) -> tuple[str, tuple[msgspec.inspect.Type, ...]]:
    """What a field's type says of itself, and the types that it allows: each member of a union,
    without its annotations."""
    if isinstance(kind, msgspec.inspect.Metadata):
        description, options = options_of(kind.type)
        return (kind.extra_json_schema or {}).get("description", description), options
    if isinstance(kind, msgspec.inspect.UnionType):
        members = [options_of(member) for member in kind.types]
        description = next((said for said, _ in reversed(members) if said), "")
        return description, tuple(option for _, options in members for option in options)
    return "", (kind,)


def _field(name: str, kind: msgspec.inspect.Type, *, required: bool) -> Field:
    description, options = options_of(kind)
    if any(isinstance(option, msgspec.inspect.BytesType) for option in options):
        return Field(name, "file", required, description)
    if any(isinstance(option, msgspec.inspect.StrType) for option in options):
        return Field(name, "text", required, description)
    choices = [option.values for option in options if isinstance(option, msgspec.inspect.LiteralType)]
    if choices:
        return Field(name, "text", required, description, tuple(str(value) for values in choices for value in values))
    return Field(name, "json", required, description)
