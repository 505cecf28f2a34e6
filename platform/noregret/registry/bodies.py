"""What POST /api/v1/models takes, as the OpenAPI document says it: made from the definitions of the frameworks that there are."""

from typing import Any, Union

import msgspec

from .frameworks import Framework, frameworks
from .frameworks.fields import own_fields

_TEMPLATE = "#/components/schemas/{name}"


def request_bodies() -> tuple[dict[str, Any], dict[str, Any]]:
    """(content by media type, component schemas that it refers to)."""
    known = frameworks().values()
    as_json = [framework.definition for framework in known if not framework.takes_artifact]
    as_form = [_form(framework) for framework in known if framework.takes_artifact]
    union: Any = Union[tuple(as_json)]  # noqa: UP007 - of as many as there are
    (reference,), components = msgspec.json.schema_components([union], ref_template=_TEMPLATE)
    return {
        "application/json": {"schema": reference},
        "multipart/form-data": {"schema": as_form[0] if len(as_form) == 1 else {"oneOf": as_form}},
    }, components


def _form(framework: Framework[Any]) -> dict[str, Any]:
    own = own_fields(framework.definition)
    return {
        "type": "object",
        "required": ["name", "version", "framework", *(name for name, field in own.items() if field.required)],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "framework": {"type": "string", "enum": [framework.name]},
            **{
                name: {"type": "string", "description": field.description}
                | ({"format": "binary"} if field.kind == "file" else {})
                for name, field in own.items()
            },
        },
    }
