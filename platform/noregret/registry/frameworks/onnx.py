"""An ONNX file that holds all of itself: what PyTorch, XGBoost, LightGBM and others export."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from noregret.registry.errors import ArtifactRefused, DefinitionInvalid
from noregret.registry.samples import check_sample, sampled
from serving.runtimes.columns import Column, Columns
from serving.runtimes.onnx import OnnxModel
from serving.runtimes.rows import to_rows

from .given_columns import GivenColumns, as_options, checked
from .protocol import ArtifactDefinition, ArtifactFramework, Content, Definition, Examined, Signature

if TYPE_CHECKING:
    from noregret.registry.models import ModelVersion
    from noregret.registry.onnx_file import Opened

_Rows = Annotated[
    list[list[Any] | dict[str, Any]],
    msgspec.Meta(min_length=1, description="For ONNX: rows as JSON that it must answer."),
]
_Expected = Annotated[
    dict[str, list[Any]],
    msgspec.Meta(
        min_length=1,
        description="For ONNX: what the original answered on the sample, as JSON: under `predict`, `predict_proba` a value a row.",
    ),
]


class OnnxDefinition(ArtifactDefinition, frozen=True, kw_only=True, tag="onnx"):
    """An ONNX file. Its inputs are the columns, or one input holds them all."""

    artifact: Annotated[bytes, msgspec.Meta(description="For ONNX: a file that holds all of its data.")]
    sample: _Rows | None = None
    expected: _Expected | None = None
    columns: GivenColumns | None = None


class OnnxFramework(ArtifactFramework[OnnxDefinition]):
    label: ClassVar[str] = "ONNX"
    definition: ClassVar[type[Definition]] = OnnxDefinition

    def content(self, definition: OnnxDefinition) -> Content:
        check_sample(definition.sample)
        checked(definition.columns)
        if definition.expected is not None and definition.sample is None:
            raise DefinitionInvalid("expected", "answers of which rows? Send them as `sample`")
        return replace(super().content(definition), options=as_options(definition.columns))

    def options(self, definition: OnnxDefinition) -> dict[str, Any]:
        columns = as_options(definition.columns)
        return {"sample": definition.sample, "expected": definition.expected, **columns}

    def inspect(self, artifact: bytes, options: Mapping[str, Any]) -> Examined:
        from noregret.registry import cost, onnx_examining, onnx_file

        given = options.get("columns")
        try:
            opened = onnx_file.open_file(artifact)
            sample = options.get("sample")
            known = _signature(opened, None if given is None else msgspec.convert(given, Columns), sample)
            rows = None if sample is None else sampled(sample, known)
            with onnx_examining.little_memory(len(artifact)):
                runtime = onnx_examining.loaded(opened.body, opened.outputs)
                examples = onnx_examining.examples(runtime, known, rows)
                onnx_examining.check_nulls(runtime, known.columns or (), examples, known)
                if rows is not None and options.get("expected") is not None:
                    onnx_examining.check_expected(runtime, rows, options["expected"])
                costs = asdict(cost.measure(runtime, to_rows(examples, known)))
        except (onnx_file.Refused, ValueError) as error:
            raise ArtifactRefused(str(error)) from error
        except MemoryError as error:
            raise ArtifactRefused("needs far more memory than its size explains") from error
        body, note = (opened.body, "rewritten: maps and the order of outputs") if opened.is_rewritten else (None, "")
        return Examined(replace(known, example_rows=examples, sampled=rows is not None), body, note, **costs)

    def model(self, version: "ModelVersion", common: dict[str, Any]) -> OnnxModel:
        return OnnxModel(sha256=version.compiled_sha256 or version.sha256, **common)


def _signature(opened: "Opened", given: Columns | None, sample: Any) -> Signature:
    """Raises ValueError for columns that are not the file's."""
    columns, is_named = opened.columns, opened.is_named
    if columns is None and given is None:
        if not sample:
            raise ValueError("does not say how many columns its rows have: send `columns` or a `sample`")
        columns = tuple(Column(f"x{place}") for place in range(len(sample[0])))
    if given is not None:
        if columns is not None:
            _check_given(given, columns, is_named=is_named)
        columns, is_named = given, True
    assert columns is not None
    if given is None:
        columns = tuple(
            Column(column.name, column.type, column.type == "number" and _has_gap(sample, place, column.name))
            for place, column in enumerate(columns)
        )
    is_typed = any(column.type != "number" for column in columns)
    is_plain = not is_typed and not any(column.nullable for column in columns)
    return Signature(
        features=len(columns),
        feature_names=[column.name for column in columns] if is_named or is_typed else None,
        outputs=opened.outputs,
        classes=opened.classes,
        task=opened.task,
        columns=None if is_plain else columns,
    )


def _has_gap(sample: Any, place: int, name: str) -> bool:
    """Is there null in this column of the sample?"""
    rows = (row.get(name, 0) if isinstance(row, dict) else row[place] for row in sample or () if len(row) > place)
    return any(value is None for value in rows)


def _check_given(given: Columns, columns: Columns, *, is_named: bool) -> None:
    """Of whole numbers and truths a model of numbers takes any; no other types may differ."""
    if len(given) != len(columns):
        raise ValueError(f"`columns` names {len(given)} columns where the model takes {len(columns)}")
    for place, (ours, theirs) in enumerate(zip(given, columns, strict=True)):
        if is_named and ours.name != theirs.name:
            raise ValueError(
                f"`columns` calls column {place} {ours.name[:64]!r}: the model's input is {theirs.name[:64]!r}"
            )
        if ours.type != theirs.type and (theirs.type != "number" or ours.type == "string"):
            raise ValueError(
                f"`columns` says that {ours.name[:64]!r} is {ours.type}: the model's input is {theirs.type}"
            )
        if ours.nullable and theirs.type != "number":
            raise ValueError(f"`columns` calls {ours.name[:64]!r} nullable: an input of {theirs.type} holds no null")
