"""A scikit-learn model as it was trained, for those that can't be compiled. Imported only where one is served: it is large."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.artifacts import ArtifactStore
from serving.snapshot import Model

from .protocol import ModelError, Outputs
from .skops_types import HARMLESS


class SklearnRuntime:
    """Skips scikit-learn's own search for NaN: rows were checked by the caller."""

    bounded = True

    def __init__(self, estimator: Any, outputs: list[str]) -> None:
        self._estimator = estimator
        self._outputs = outputs
        self._config_context = import_module("sklearn").config_context

    def predict(self, rows: NDArray[np.float64]) -> Outputs:
        outputs: Outputs = {}
        with self._config_context(assume_finite=True):
            for name in self._outputs:
                value = np.asarray(getattr(self._estimator, name)(rows))
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    raise ModelError(f"{name} is not finite")
                outputs[name] = value.tolist()
        return outputs


def load(model: Model, artifacts: ArtifactStore, trusted: Sequence[str]) -> SklearnRuntime:
    """Raises ArtifactMissing; skops' own exceptions for a file that holds other types than were allowed at registration."""
    from skops.io import get_untrusted_types, loads

    # Models trained on named columns warn about every array without names; ours are in that order.
    warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
    if model.sha256 is None:
        raise ModelError(f"{model.model} has no file")
    body = artifacts.read(model.sha256)
    # Only what the file holds: skops refuses a list with types that it does not need.
    allowed = sorted(set(get_untrusted_types(data=body)) & {*trusted, *HARMLESS})
    return SklearnRuntime(loads(body, trusted=allowed), model.outputs)
