"""A payload that callers ask for: they run the model, prompt or page themselves."""

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from noregret.registry.errors import DefinitionInvalid
from serving.runtimes.static import StaticModel
from serving.snapshot import as_sent

from .protocol import Content, Definition, Examined, Framework

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion


class StaticDefinition(Definition, frozen=True, kw_only=True, tag="static"):
    """A payload and nothing else."""

    payload: Annotated[Any, msgspec.Meta(description="For a static payload: any JSON.")] = None


class StaticFramework(Framework[StaticDefinition]):
    label: ClassVar[str] = "Static payload"
    definition: ClassVar[type[Definition]] = StaticDefinition

    def content(self, definition: StaticDefinition) -> Content:
        _check_numbers(definition.payload)
        return Content(payload=definition.payload)

    def examine(self, definition: StaticDefinition) -> Examined:
        return Examined()

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> StaticModel:
        return StaticModel(payload=as_sent(version.payload), **common)


def _check_numbers(payload: Any) -> None:
    """Raises DefinitionInvalid for a number that would be served as another: MessagePack's integers
    have 64 bits, and PostgreSQL's numbers no zero with a sign.
    """
    waiting = [("payload", payload)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{name[:64]}", inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}[{place}]", inner) for place, inner in enumerate(value)]
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            message = "an integer from -2^63 to 2^64 - 1 was expected: send a longer one as text"
            raise DefinitionInvalid(path[:255], message)
        elif isinstance(value, float) and value == 0.0 and math.copysign(1.0, value) < 0:
            raise DefinitionInvalid(path[:255], "0 was expected, without a sign")
