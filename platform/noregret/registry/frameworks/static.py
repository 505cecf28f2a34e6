"""A payload that callers ask for: they run the model, prompt or page themselves."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

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
        return Content(payload=definition.payload)

    def examine(self, definition: StaticDefinition) -> Examined:
        return Examined()

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> StaticModel:
        return StaticModel(payload=as_sent(version.payload), **common)
