"""What POST /api/v1/models takes, as the OpenAPI document says it: made from the definitions of the
frameworks that there are.
"""

from typing import Any

from .frameworks import Framework, frameworks
from .frameworks.fields import own_fields


def json_definitions() -> tuple[type, ...]:
    """The documents of frameworks whose models need no artefact: any of them will do."""
    return tuple(framework.definition for framework in frameworks().values() if not framework.takes_artifact)


def forms() -> dict[str, Any]:
    """The schema of the form that an artefact is sent in."""
    those = [_form(framework) for framework in frameworks().values() if framework.takes_artifact]
    return those[0] if len(those) == 1 else {"oneOf": those}


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
