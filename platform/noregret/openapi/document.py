"""The OpenAPI 3.1 document: views by drf-spectacular, what answers outside REST framework beside
them."""

import re
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from . import components
from .collect import Address, addresses

_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]


def document() -> dict[str, Any]:
    """The whole document."""
    generator: Any = SchemaGenerator  # untyped in the library
    whole: dict[str, Any] = generator().get_schema(request=None, public=True)
    return whole


def complete(result: dict[str, Any], **generation: Any) -> dict[str, Any]:
    """drf-spectacular's POSTPROCESSING_HOOKS: adds every other address, and the types that all of
    them use."""
    named: set[str | None] = set()
    for address in addresses():
        if not address.by_view:
            operation = _operation(address)
            if address.call.name in named:  # one call at several addresses
                operation["operationId"] = f"{address.call.name}_at_{_told_by(address.path)}"
            named.add(address.call.name)
            result["paths"].setdefault(address.path, {})[address.method] = operation
    result["components"]["schemas"] = components.schemas()
    return result


def _told_by(path: str) -> str:
    """What tells an address from the others of its call: its last parameter but the endpoint's
    name, or its last word."""
    parameters = [name for name in re.findall(r"\{(\w+)\}", path) if name != "endpoint"]
    return parameters[-1] if parameters else path.rstrip("/").rpartition("/")[2]


def _operation(address: Address) -> dict[str, Any]:
    call = address.call
    responses: dict[str, dict[str, Any]] = {}
    for (status, media_type), schema in components.answers(call).items():
        response = responses.setdefault(str(status), {"description": components.described(status)})
        if schema is not None:
            response.setdefault("content", {})[media_type] = {"schema": schema}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", address.path)
    ]
    kinds = {str: "string", int: "integer", bool: "boolean"}
    for parameter in call.parameters:
        schema = {"type": kinds[parameter.kind]} | ({"enum": list(parameter.values)} if parameter.values else {})
        parameters.append(
            {"name": parameter.name, "in": "query", "description": parameter.description, "schema": schema}
        )
    operation: dict[str, Any] = {
        "operationId": call.name,
        "summary": call.summary,
        "tags": [address.tag],
        "parameters": parameters,
        "responses": responses,
        "security": [] if call.open else _SECURITY,
    }
    if call.bodies:
        content = {media_type: {"schema": schema} for media_type, schema in components.bodies(call).items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
