"""A payload and nothing else: for callers that run the model, prompt or page themselves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.snapshot import Model

from .protocol import Outputs


class StaticRuntime:
    """Gives its payload for every row."""

    bounded = True

    def __init__(self, payload: Any) -> None:
        self._payload = payload

    def predict(self, rows: NDArray[np.float64]) -> Outputs:
        return {"predict": [self._payload] * len(rows)}


def load(model: Model) -> StaticRuntime:
    return StaticRuntime(model.payload)
