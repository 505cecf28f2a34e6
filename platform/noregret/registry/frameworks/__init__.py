"""The frameworks by name. Adding one: a file with its definition and its class, and a line here
(docs/adding-a-framework.md).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from serving.runtimes import Model, kinds
from serving.runtimes.columns import Columns
from serving.snapshot import as_sent

from .http import HttpDefinition, HttpFramework
from .onnx import OnnxDefinition, OnnxFramework
from .protocol import (
    ArtifactDefinition,
    ArtifactFramework,
    Content,
    Definition,
    Examined,
    Framework,
)
from .python import PythonDefinition, PythonFramework
from .sklearn import SklearnDefinition, SklearnFramework
from .static import StaticDefinition, StaticFramework

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion

__all__ = [
    "ArtifactDefinition",
    "ArtifactFramework",
    "Content",
    "Definition",
    "Examined",
    "Framework",
    "HttpDefinition",
    "OnnxDefinition",
    "PythonDefinition",
    "SklearnDefinition",
    "StaticDefinition",
    "framework_choices",
    "frameworks",
    "model_document",
    "register",
    "runtime_choices",
]

_FRAMEWORKS: dict[str, Framework[Any]] = {}


def register(framework: Framework[Any]) -> None:
    """From now on models of this framework can be registered. Raises ValueError for a name that is
    taken.
    """
    if _FRAMEWORKS.setdefault(framework.name, framework) is not framework:
        raise ValueError(f"there is a framework {framework.name} already")


for _framework in (SklearnFramework(), OnnxFramework(), HttpFramework(), PythonFramework(), StaticFramework()):
    register(_framework)


def frameworks() -> Mapping[str, Framework[Any]]:
    """Every framework by its name, in the order in which people are offered them."""
    return dict(_FRAMEWORKS)


def framework_choices() -> list[tuple[str, str]]:
    return [(name, framework.label) for name, framework in _FRAMEWORKS.items()]


def runtime_choices() -> list[tuple[str, str]]:
    return [(name, kind.label) for name, kind in kinds().items()]


def model_document(version: "ModelVersion") -> Model:
    """What the snapshot says of a version."""
    signature = version.signature
    columns = signature.get("columns")  # models of before have none
    common = {
        "model": version.model,
        "framework": version.framework,
        "features": signature["features"],
        "feature_names": signature["feature_names"],
        "columns": None if columns is None else msgspec.convert(columns, Columns),
        "outputs": signature["outputs"],
        "classes": as_sent(signature["classes"]),
        # Models of before have none.
        "example_rows" if columns is None else "examples": as_sent(signature.get("example_rows")),
        "call_seconds": version.call_seconds,
        "row_seconds": version.row_seconds,
    }
    return _FRAMEWORKS[version.framework].model(version, common)
