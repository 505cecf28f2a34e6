"""A payload and nothing else: for callers that run the model, prompt or page themselves."""

from typing import Any, ClassVar

from .protocol import Kept, Model, Resources
from .static_runtime import StaticRuntime


class StaticModel(Model, frozen=True, kw_only=True, tag="static"):
    label: ClassVar[str] = "Static payload"
    kept: ClassVar[Kept] = "never"
    stays: ClassVar[str | None] = None

    payload: Any = None

    def load(self, resources: Resources) -> StaticRuntime:
        return StaticRuntime(self.payload)
