"""A fitted scikit-learn estimator in a skops file: served as ONNX where that answers the same, else
as it was trained.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from noregret.registry.errors import ArtifactRefused, DefinitionInvalid
from noregret.registry.samples import check_sample, sampled
from serving.runtimes import Model, onnx, onnx_graph
from serving.runtimes.columns import Columns
from serving.runtimes.rows import to_rows
from serving.runtimes.sklearn import SklearnModel, SklearnRuntime

from .given_columns import GivenColumns, as_options, checked
from .protocol import ArtifactDefinition, ArtifactFramework, Content, Definition, Examined, Signature

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion

Sample = Annotated[
    list[list[Any] | dict[str, Any]],
    msgspec.Meta(
        min_length=1,
        description="For scikit-learn: rows as JSON, lists or objects by column, to check the compiled model on.",
    ),
]


class SklearnDefinition(ArtifactDefinition, frozen=True, kw_only=True, tag="sklearn"):
    """A skops file, and rows that the model is to answer."""

    artifact: Annotated[bytes, msgspec.Meta(description="For scikit-learn: a file of skops.io.dump.")]
    sample: Sample | None = None
    columns: GivenColumns | None = None


class SklearnFramework(ArtifactFramework[SklearnDefinition]):
    label: ClassVar[str] = "scikit-learn"
    definition: ClassVar[type[Definition]] = SklearnDefinition

    def content(self, definition: SklearnDefinition) -> Content:
        check_sample(definition.sample)
        checked(definition.columns)
        return replace(super().content(definition), options=as_options(definition.columns))

    def options(self, definition: SklearnDefinition) -> dict[str, Any]:
        from django.conf import settings

        return {
            "trusted": list(settings.SKOPS_TRUSTED),
            "sample": definition.sample,
            **as_options(definition.columns),
        }

    def examine(self, definition: SklearnDefinition) -> Examined:
        if not definition.artifact:
            raise DefinitionInvalid("artifact", "the file is empty: a skops file was expected")
        return super().examine(definition)

    def inspect(self, artifact: bytes, options: Mapping[str, Any]) -> Examined:
        from noregret.registry import column_signature, examining, signature, skops_file

        given = options.get("columns")
        columns = None if given is None else msgspec.convert(given, Columns)
        sample = options.get("sample")
        try:
            estimator = skops_file.load(artifact, options["trusted"])
            known = column_signature.with_columns(estimator, signature.read(estimator), columns, sample)
            rows = None if sample is None else sampled(sample, known)
        except (skops_file.Refused, ValueError) as error:
            raise ArtifactRefused(str(error)) from error
        try:
            known, compiled = examining.examine(estimator, known, rows, is_given=columns is not None)
        except examining.NotAnswering as error:
            raise ArtifactRefused(str(error)) from error
        runtime = (
            SklearnRuntime(estimator, known.outputs, known.columns)
            if compiled.body is None
            else onnx_graph.load(compiled.body, known.outputs)
        )
        return Examined(known, compiled.body, compiled.note, **_cost(runtime, known))

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> Model:
        if version.compiled:
            return onnx.OnnxModel(sha256=version.compiled_sha256, **common)
        # Nobody asked models of before.
        return SklearnModel(sha256=version.sha256, by_row=version.signature.get("by_row") is True, **common)


def _cost(runtime: Any, known: Signature) -> dict[str, float | None]:
    from noregret.registry import cost

    try:
        return asdict(cost.measure(runtime, to_rows(known.example_rows or [], known)))
    except Exception:  # it answers many rows and not these few: then nobody knows what a call takes
        return {"call_seconds": None, "row_seconds": None}
