"""A framework in one file: rows times a factor that an uploaded file says. Both sides: how it is
registered, and how it serves.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
import numpy as np
from noregret.registry.errors import ArtifactRefused
from noregret.registry.frameworks.protocol import (
    ArtifactDefinition,
    ArtifactFramework,
    Definition,
    Examined,
    Signature,
)
from numpy.typing import NDArray

from serving.runtimes import Model, Outputs, Resources, RowsRefused

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion


class DoublingRuntime:
    bounded = True

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def predict(self, rows: NDArray[np.float64]) -> Outputs:
        if (rows < 0).any():
            raise RowsRefused("a negative value")
        return {"predict": (rows[:, 0] * self._factor).tolist()}


class DoublingModel(Model, frozen=True, kw_only=True, tag="doubling"):
    label: ClassVar[str] = "Doubling"

    sha256: str

    def load(self, resources: Resources) -> DoublingRuntime:
        return DoublingRuntime(json.loads(resources.artifacts.read(self.sha256))["factor"])


class DoublingDefinition(ArtifactDefinition, frozen=True, kw_only=True, tag="doubling"):
    artifact: Annotated[bytes, msgspec.Meta(description="A JSON object with a factor.")]
    unit: Annotated[str, msgspec.Meta(description="For doubling: what the numbers are.")] = ""


class DoublingFramework(ArtifactFramework[DoublingDefinition]):
    label: ClassVar[str] = "Doubling"
    definition: ClassVar[type[Definition]] = DoublingDefinition

    def inspect(self, artifact: bytes, options: Mapping[str, Any]) -> Examined:
        try:
            factor = json.loads(artifact)["factor"]
        except (ValueError, LookupError, TypeError) as error:
            raise ArtifactRefused("holds no factor") from error
        signature = Signature(2, ["x", "y"], ["predict"], None, "regressor", example_rows=[[1.0, factor]])
        return Examined(signature, note="nothing to compile")

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> DoublingModel:
        return DoublingModel(sha256=version.sha256, **common)
