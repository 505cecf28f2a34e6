"""A model's rows and outputs as tensors of the Open Inference Protocol.

A model whose features have no names takes one tensor `input` of (rows, features); one with named
columns takes a tensor a column, or one `input` where all are numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving import problems
from serving.runtimes.columns import Columns, ColumnType, Rows, are_numbers
from serving.runtimes.rows import RowsInvalid, from_columns
from serving.snapshot import Model

from .tensors import MOST_TENSORS, Described, Tensor, invalid

MATRIX = "input"
"""The one tensor that holds all features."""

_NUMBERS = frozenset("iuf")
_DATATYPES: dict[ColumnType, str] = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": "BYTES"}


def inputs_of(model: Model) -> list[Described]:
    """The tensors that a model takes."""
    if model.columns is not None:
        return [Described(column.name, _DATATYPES[column.type], [-1, 1]) for column in model.columns]
    if model.feature_names is None:
        return [Described(MATRIX, "FP64", [-1, -1 if model.features is None else model.features])]
    return [Described(name, "FP64", [-1, 1]) for name in model.feature_names]


def outputs_of(model: Model) -> list[Described]:
    """The tensors that a model gives."""
    return [Described(name, *_form_of(model, name)) for name in model.outputs or ["predict"]]


def rows_of(model: Model, tensors: Sequence[Tensor]) -> Rows:
    """The rows that the tensors of a request hold. NaN and missing texts are null. Raises Problem
    400, which names the tensor."""
    if len(tensors) > MOST_TENSORS:
        raise problems.invalid_fields(
            [{"field": "inputs", "message": f"{len(tensors)} tensors where at most {MOST_TENSORS} are taken"}]
        )
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) < len(tensors):
        raise problems.invalid_fields([{"field": "inputs", "message": "two tensors have one name"}])
    if model.columns is not None:
        return _typed(model.columns, by_name)
    names = model.feature_names
    is_matrix = names is None or (len(tensors) == 1 and tensors[0].name not in names)
    array = _matrix(model, tensors) if names is None or is_matrix else _columns(names, by_name)
    if not len(array):
        raise invalid(tensors[0].name, "no rows: at least one was expected")
    return array


def _typed(columns: Columns, given: Mapping[str, Tensor]) -> Rows:
    """Rows of a model with columns."""
    try:
        return from_columns(_by_column(columns, given), columns)
    except RowsInvalid as error:
        raise problems.invalid_fields(error.errors) from error


def _by_column(columns: Columns, given: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """A value a row under each tensor's name, or a column's where one tensor holds them all."""
    names = [column.name for column in columns]
    if len(given) != 1 or next(iter(given)) in names:
        return {name: _flat(tensor) for name, tensor in given.items()}
    (tensor,) = given.values()
    if len(names) == 1:
        return {names[0]: _flat(tensor)}
    if not are_numbers(columns):
        raise invalid(tensor.name, f"no such column: a tensor a column was expected, of {', '.join(names)}"[:500])
    shape = tensor.array.shape
    if len(shape) != 2 or shape[1] != len(names):
        raise invalid(tensor.name, f"shape {list(shape)} where [rows, {len(names)}] was expected")
    return {name: tensor.array[:, place] for place, name in enumerate(names)}


def check_outputs(model: Model, names: Sequence[str]) -> None:
    """Raises Problem 400 for a name that is no output's."""
    known = model.outputs or ["predict"]
    for name in names:
        if name not in known:
            raise problems.invalid_fields(
                [{"field": f"outputs.{name[:64]}", "message": f"no such output: there are {', '.join(known)}"}]
            )


def tensors_of(model: Model, outputs: Mapping[str, Sequence[Any]], names: Sequence[str]) -> list[Tensor]:
    """What was answered as tensors, those of `names` or all; in the datatypes that are told of
    `model`. Another that answered in its place may have fewer outputs."""
    return [_tensor(model, name, outputs[name]) for name in names or outputs if name in outputs]


def _matrix(model: Model, tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    width = "n" if model.features is None else model.features
    if len(tensors) != 1:
        message = f"{len(tensors)} tensors where one, `{MATRIX}` of [rows, {width}], was expected"
        raise problems.invalid_fields([{"field": "inputs", "message": message}])
    (tensor,) = tensors
    shape = tensor.array.shape
    if len(shape) != 2 or (model.features is not None and shape[1] != model.features):
        raise invalid(tensor.name, f"shape {list(shape)} where [rows, {width}] was expected")
    return _numbers(tensor)


def _columns(names: Sequence[str], given: Mapping[str, Tensor]) -> NDArray[np.float64]:
    known = frozenset(names)
    errors: list[problems.FieldError] = [
        {"field": name[:64], "message": "missing tensor: one a feature was expected"}
        for name in names
        if name not in given
    ]
    errors += [{"field": name[:64], "message": "unknown tensor"} for name in given if name not in known]
    if errors:
        raise problems.invalid_fields(errors[:20])
    columns = [_column(given[name]) for name in names]
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(columns[0]):
            raise invalid(name, f"{len(column)} rows where {names[0]} has {len(columns[0])}")
    return np.stack(columns, axis=1)


def _column(tensor: Tensor) -> NDArray[np.float64]:
    _flat(tensor)
    return _numbers(tensor).reshape(-1)


def _flat(tensor: Tensor) -> NDArray[Any]:
    """A value a row."""
    shape = tensor.array.shape
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise invalid(tensor.name, f"shape {list(shape)} where [rows, 1] was expected")
    return tensor.array.reshape(-1)


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    if tensor.array.dtype.kind not in _NUMBERS:
        raise invalid(tensor.name, f"datatype {tensor.datatype} where numbers were expected, as FP64")
    numbers = tensor.array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise invalid(tensor.name, "finite numbers were expected")
    return numbers


def _form_of(model: Model, name: str) -> tuple[str, list[int]]:
    """An output's datatype and shape, as far as the model's signature tells."""
    classes = model.classes
    if classes is None:
        return "FP64", [-1] if name == "predict" else [-1, -1]
    if any(isinstance(label, list) for label in classes):  # several outputs
        labels = [label for of_one in classes for label in of_one]
        return (_datatype(labels), [-1, len(classes)]) if name == "predict" else ("FP64", [-1, -1])
    return (_datatype(classes), [-1]) if name == "predict" else ("FP64", [-1, len(classes)])


def _datatype(values: Sequence[Any]) -> str:
    """The narrowest datatype that takes all of these; BYTES, as JSON, where no other does."""
    kinds = set(map(type, values))
    if kinds <= {bool}:
        return "BOOL"
    if kinds <= {int}:
        return "INT64" if all(-(2**63) <= value < 2**63 for value in values) else "FP64"
    if kinds <= {int, float}:
        return "FP64"
    return "BYTES"


def _tensor(model: Model, name: str, values: Sequence[Any]) -> Tensor:
    """A list of values a row as a tensor; what has no shape is a row's JSON text."""
    shape, flat = _unnested(values)
    datatype = _datatype(flat)
    if datatype == "BYTES" and set(map(type, flat)) != {str}:
        shape, flat = [len(values)], [msgspec.json.encode(value).decode() for value in values]
    elif datatype == "INT64" and _form_of(model, name)[0] == "FP64":
        datatype = "FP64"  # as the model's metadata has it
    dtype = {"BYTES": object, "BOOL": bool, "INT64": np.int64, "FP64": np.float64}[datatype]
    array = np.empty(len(flat), dtype=dtype)
    array[:] = flat
    return Tensor(name, datatype, array.reshape(shape))


def _unnested(values: Sequence[Any]) -> tuple[list[int], list[Any]]:
    """The shape that nested lists of equal lengths have, and their values; where they are not equal
    the outer ones alone."""
    shape, flat = [len(values)], list(values)
    while flat and all(type(part) is list for part in flat) and len({len(part) for part in flat}) == 1 and flat[0]:
        shape.append(len(flat[0]))
        flat = [value for part in flat for value in part]
    return shape, flat
