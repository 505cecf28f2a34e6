"""A fitted scikit-learn estimator in a skops file: served as ONNX where that answers the same, else
as it was trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from noregret.registry.errors import ArtifactRefused, DefinitionInvalid
from serving.runtimes import Model, onnx
from serving.runtimes.sklearn import SklearnModel, SklearnRuntime

from .protocol import ArtifactDefinition, ArtifactFramework, Content, Definition, Examined

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion

Sample = Annotated[
    list[list[float]],
    msgspec.Meta(min_length=1, description="For scikit-learn: rows as JSON, to check the compiled model on."),
]


class SklearnDefinition(ArtifactDefinition, frozen=True, kw_only=True, tag="sklearn"):
    """A skops file, and rows that the model is to answer."""

    artifact: Annotated[bytes, msgspec.Meta(description="For scikit-learn: a file of skops.io.dump.")]
    sample: Sample | None = None


class SklearnFramework(ArtifactFramework[SklearnDefinition]):
    label: ClassVar[str] = "scikit-learn"
    definition: ClassVar[type[Definition]] = SklearnDefinition

    def content(self, definition: SklearnDefinition) -> Content:
        first, *others = definition.sample or [[]]
        for i, row in enumerate(others, start=1):
            if len(row) != len(first):
                raise DefinitionInvalid(f"sample[{i}]", f"{len(row)} values where the first row has {len(first)}")
        return super().content(definition)

    def options(self, definition: SklearnDefinition) -> dict[str, Any]:
        from django.conf import settings

        return {"trusted": list(settings.SKOPS_TRUSTED), "sample": definition.sample}

    def examine(self, definition: SklearnDefinition) -> Examined:
        if not definition.artifact:
            raise DefinitionInvalid("artifact", "the file is empty: a skops file was expected")
        return super().examine(definition)

    def inspect(self, artifact: bytes, options: Mapping[str, Any]) -> Examined:
        import numpy as np

        from noregret.registry import examining, signature, skops_file

        try:
            estimator = skops_file.load(artifact, options["trusted"])
            known = signature.read(estimator)
        except (skops_file.Refused, ValueError) as error:
            raise ArtifactRefused(str(error)) from error
        sample = None
        if options["sample"] is not None:
            sample = np.asarray(options["sample"], dtype=np.float64)
            if sample.ndim != 2 or (known.features is not None and sample.shape[1] != known.features):
                raise ArtifactRefused(f"the sample has shape {sample.shape}: (rows, {known.features}) was expected")
        try:
            known, compiled = examining.examine(estimator, known, sample)
        except examining.NotAnswering as error:
            raise ArtifactRefused(str(error)) from error
        runtime = (
            SklearnRuntime(estimator, known.outputs)
            if compiled.body is None
            else onnx.load(compiled.body, known.outputs)
        )
        return Examined(known, compiled.body, compiled.note, **_cost(runtime, known.example_rows))

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> Model:
        if version.compiled:
            return onnx.OnnxModel(sha256=version.compiled_sha256, **common)
        return SklearnModel(sha256=version.sha256, **common)


def _cost(runtime: Any, example_rows: Sequence[Sequence[float]] | None) -> dict[str, float | None]:
    import numpy as np

    from noregret.registry import cost

    try:
        return asdict(cost.measure(runtime, np.array(example_rows, dtype=np.float64)))
    except Exception:  # it answers many rows and not these few: then nobody knows what a call takes
        return {"call_seconds": None, "row_seconds": None}
