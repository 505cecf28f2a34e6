"""An allow-listed Python callable: rows as a 2-d float array in, or as a mapping of columns, an
array with a row for each out."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from .columns import Rows, Table
from .protocol import Model, ModelError, Outputs, Resources, check_finite


def is_allowed(path: str, allowed: Sequence[str]) -> bool:
    """May `package.module.name` be called? `package.*` allows all of a package and of what is below
    it."""
    return any(path == entry or (entry.endswith(".*") and path.startswith(entry[:-1])) for entry in allowed)


def resolve(path: str, allowed: Sequence[str]) -> Callable[[Any], Any]:
    """The callable of a dotted path. Raises ModelError when it is not allowed, not there, or can't
    be called."""
    if not is_allowed(path, allowed):
        raise ModelError(f"{path} is not on the allow-list NOREGRET_PYTHON_CALLABLES")
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # an import runs the module: it may raise anything
        raise ModelError(f"{path} can't be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ModelError(f"{path} is not callable")
    function: Callable[[Any], Any] = found
    return function


class PythonRuntime:
    """Calls the function; what it does is its own affair, so it runs under the deadline."""

    bounded = False

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def predict(self, rows: Rows) -> Outputs:
        answer = np.asarray(self._function(rows.by_name() if isinstance(rows, Table) else rows))
        if answer.ndim == 0 or len(answer) != len(rows):
            raise ModelError(f"{len(rows)} rows gave an array of shape {answer.shape}")
        check_finite("a prediction", answer)
        if answer.dtype.kind not in "biufUS":
            raise ModelError(f"predictions of dtype {answer.dtype} have no JSON form")
        return {"predict": answer.tolist()}


class PythonModel(Model, frozen=True, kw_only=True, tag="python"):
    label: ClassVar[str] = "Python callable"

    callable: str

    def load(self, resources: Resources) -> PythonRuntime:
        return PythonRuntime(resolve(self.callable, resources.settings.PYTHON_CALLABLES))
