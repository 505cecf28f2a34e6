"""The runtimes by name. Adding one: a file with a kind of Model, and a line here
(docs/adding-a-framework.md).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from .columns import Column, Rows, Table
from .http import HttpModel
from .onnx import OnnxModel
from .protocol import Model, Resources
from .python import PythonModel
from .runtime import ModelError, Outputs, RowsRefused, Runtime
from .sklearn import SklearnModel
from .static import StaticModel
from .unloadable import UnloadableModel

__all__ = [
    "Column",
    "Model",
    "ModelError",
    "Outputs",
    "Resources",
    "Rows",
    "RowsRefused",
    "Runtime",
    "Table",
    "kinds",
    "model_of",
    "register",
]

_KINDS: dict[str, type[Model]] = {}


def register(kind: type[Model]) -> None:
    """From now on a snapshot may hold models of this kind. Raises ValueError for a name that is
    taken.
    """
    name = str(kind.__struct_config__.tag)
    if _KINDS.setdefault(name, kind) is not kind:
        raise ValueError(f"there is a runtime {name} already")


for _kind in (HttpModel, OnnxModel, PythonModel, SklearnModel, StaticModel):
    register(_kind)


def kinds() -> Mapping[str, type[Model]]:
    """Every kind of model by its runtime's name."""
    return dict(sorted(_KINDS.items()))


_MOST_MODELS = 10_000
# Each model once, however many endpoints name it: of a thousand endpoints models are most of what
# is held.
_models: dict[tuple[type[Model], bytes], Model] = {}


def _shared(kind: type[Model], document: dict[str, Any]) -> Model:
    """The model of a description, told apart to the letter: 1, 1.0 and true are equal to Python."""
    key = kind, msgspec.msgpack.encode(document)
    model = _models.get(key)
    if model is None:
        model = msgspec.convert(document, kind)
        if len(_models) >= _MOST_MODELS:
            _models.clear()
        _models[key] = model
    return model


def model_of(document: Any) -> Model:
    """The model that a snapshot describes, by its tag `runtime`. One that can't be loaded here says
    so when it is.

    Raises msgspec.ValidationError for what describes no model at all.
    """
    if not isinstance(document, dict):
        raise msgspec.ValidationError("Expected `object` that describes a model")
    name = document.get("runtime")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        problem = f"runtime is {name!r}: one of {', '.join(kinds())} was expected"
    else:
        try:
            return _shared(kind, document)
        except msgspec.ValidationError as error:
            problem = f"its description is no {name} model's: {error}"
    return msgspec.convert(document | {"runtime": "unloadable", "problem": problem}, UnloadableModel)
