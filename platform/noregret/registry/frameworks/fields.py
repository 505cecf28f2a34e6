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


def own_fields(definition: type[Definition]) -> Mapping[str, Field]:
    """The fields of a definition that not every framework has, by name."""
    described = msgspec.inspect.type_info(definition)
    assert isinstance(described, msgspec.inspect.StructType)
    return {
        field.name: _field(field.name, field.type, required=field.required)
        for field in described.fields
        if field.name not in COMMON
    }


def _field(name: str, kind: msgspec.inspect.Type, *, required: bool) -> Field:
    description = ""
    options = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    plain = []
    for option in options:
        if isinstance(option, msgspec.inspect.Metadata):
            description = (option.extra_json_schema or {}).get("description", description)
            option = option.type
        plain.append(option)
    if any(isinstance(option, msgspec.inspect.BytesType) for option in plain):
        return Field(name, "file", required, description)
    if any(isinstance(option, msgspec.inspect.StrType) for option in plain):
        return Field(name, "text", required, description)
    return Field(name, "json", required, description)
