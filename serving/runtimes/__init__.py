"""Runtimes, one framework a file behind one protocol. Adding one: a file with a `load`, and a line here."""

from collections.abc import Callable, Sequence

from serving.artifacts import ArtifactStore
from serving.snapshot import Model

from . import onnx, python, sklearn, static
from .protocol import ModelError, Outputs, Runtime

__all__ = ["ModelError", "Outputs", "Runtime", "load"]


_LOADERS: dict[str, Callable[[Model, ArtifactStore, Sequence[str], Sequence[str]], Runtime]] = {
    "onnx": lambda model, artifacts, callables, trusted: onnx.load(model, artifacts),
    "python": lambda model, artifacts, callables, trusted: python.load(model, callables),
    "sklearn": lambda model, artifacts, callables, trusted: sklearn.load(model, artifacts, trusted),
    "static": lambda model, artifacts, callables, trusted: static.load(model),
}


def load(
    model: Model, artifacts: ArtifactStore, *, python_callables: Sequence[str], skops_trusted: Sequence[str]
) -> Runtime:
    """The runtime of a model. Raises ValueError for a runtime that does not exist, ModelError, ArtifactMissing."""
    try:
        loader = _LOADERS[model.runtime]
    except KeyError:
        raise ValueError(f"runtime is {model.runtime!r}: one of {', '.join(sorted(_LOADERS))} was expected") from None
    return loader(model, artifacts, python_callables, skops_trusted)
