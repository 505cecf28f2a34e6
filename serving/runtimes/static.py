"""A payload and nothing else: for callers that run the model, prompt or page themselves."""

from typing import Any, ClassVar

from .columns import Rows
from .protocol import Kept, Model, Outputs, Resources


class StaticRuntime:
    """Gives its payload for every row."""

    bounded = True

    def __init__(self, payload: Any) -> None:
        self._payload = payload

    def predict(self, rows: Rows) -> Outputs:
        return {"predict": [self._payload] * len(rows)}


class StaticModel(Model, frozen=True, kw_only=True, tag="static"):
    label: ClassVar[str] = "Static payload"
    kept: ClassVar[Kept] = "never"

    payload: Any = None

    def load(self, resources: Resources) -> StaticRuntime:
        return StaticRuntime(self.payload)
