"""Rows as the tensors of the Open Inference Protocol, and tensors of an answer as outputs by name.
How they travel, as JSON or by gRPC, never enters this module.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.runtimes.columns import Column, Columns, ColumnType, Rows, Table
from serving.runtimes.protocol import ModelError, Outputs, RowsRefused, check_finite

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""The protocol's datatypes of numbers."""
TEXT = "BYTES"
_NAME = 64

MOST_OUTPUTS = 64
MOST_INPUTS = 10_000
MOST_FEATURES = 1_000_000
"""Of a row: more than a request's body has room for."""


class Tensor(msgspec.Struct, frozen=True):
    """A tensor as a server describes it; -1 in a shape is any number, and the first is the
    rows'.
    """

    name: str
    datatype: str
    shape: list[int]


UNNAMED = Tensor("input", "FP64", [-1, -1])
"""What is sent to a server that describes no input."""


class LayoutUnknown(ValueError):
    """Rows can't be laid out as these tensors; the message says why."""


def width_of(inputs: Sequence[Tensor]) -> int | None:
    """How many features a row has for these inputs; None where any number will do. Raises
    LayoutUnknown.

    One input takes rows whole, as a vector or in a shape of its own; of several each takes a
    column.
    """
    for tensor in inputs:
        if tensor.datatype not in DTYPES and tensor.datatype != TEXT:
            raise LayoutUnknown(f"its input {tensor.name} takes {tensor.datatype}, which rows have not")
        if not tensor.shape or tensor.shape[0] != -1 or any(length < -1 for length in tensor.shape):
            raise LayoutUnknown(f"its input {tensor.name} has shape {tensor.shape}: -1 was expected first, for rows")
    if len(inputs) > 1:
        if len(inputs) > MOST_INPUTS:
            raise LayoutUnknown(f"it has {len(inputs)} inputs: at most {MOST_INPUTS} are taken")
        twice = [name for name, count in Counter(tensor.name for tensor in inputs).items() if count > 1]
        if twice:
            raise LayoutUnknown(f"it has two inputs {twice[0][:_NAME]}: each needs a name of its own")
        for tensor in inputs:
            if math.prod(tensor.shape[1:]) != 1:
                raise LayoutUnknown(f"its input {tensor.name} has shape {tensor.shape} beside others: a column has one")
        return len(inputs)
    rest = inputs[0].shape[1:] if inputs else [-1]
    if inputs and inputs[0].datatype == TEXT and math.prod(rest) != 1:
        raise LayoutUnknown(f"its input {inputs[0].name} takes {rest} texts a row: one was expected")
    if -1 not in rest:
        width = math.prod(rest)
        if not 0 < width <= MOST_FEATURES:
            raise LayoutUnknown(
                f"its input {inputs[0].name} takes {width} values a row: 1 to {MOST_FEATURES} were expected"
            )
        return width
    if len(rest) > 1:
        raise LayoutUnknown(f"its input {inputs[0].name} has shape {inputs[0].shape}: only the rows may be -1")
    return None


def columns_of(inputs: Sequence[Tensor]) -> Columns | None:
    """The columns of rows where each input is one; None where one input takes whole rows."""
    if not inputs or any(math.prod(tensor.shape[1:]) != 1 for tensor in inputs):
        return None
    return tuple(Column(tensor.name, _column_type(tensor.datatype)) for tensor in inputs)


def _column_type(datatype: str) -> ColumnType:
    if datatype in {TEXT, "BOOL"}:
        return "string" if datatype == TEXT else "boolean"
    return "number" if datatype.startswith("FP") else "integer"


def laid_out(inputs: Sequence[Tensor], rows: Rows) -> list[tuple[Tensor, NDArray[Any]]]:
    """Each input with its values, (n, ...) of its datatype; texts are an array of objects. Raises
    RowsRefused for a value that the datatype has not.
    """
    if not inputs:
        inputs = (UNNAMED,)
    arrays = list(rows.arrays) if isinstance(rows, Table) else list(rows.T)
    if len(inputs) == 1:
        whole = _side_by_side(rows, arrays)
        return [(inputs[0], _typed(inputs[0], whole))]
    if len(arrays) != len(inputs):
        raise RowsRefused(f"rows have {len(arrays)} values where {len(inputs)} inputs take one each")
    return [(tensor, _typed(tensor, array[:, None])) for tensor, array in zip(inputs, arrays, strict=True)]


def _side_by_side(rows: Rows, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if not isinstance(rows, Table):
        return rows
    if any(array.dtype.kind == "O" for array in arrays) and len(arrays) > 1:
        raise RowsRefused("rows hold more than numbers where one input takes all of them")
    return np.stack(arrays, axis=1)


def _typed(tensor: Tensor, values: NDArray[Any]) -> NDArray[Any]:
    """`values` are (n, width)."""
    dtype = DTYPES.get(tensor.datatype, object)
    typed: NDArray[Any]
    if dtype is object or values.dtype.kind == "O":
        kind = str if dtype is object else bool
        typed, wrong = values, np.array([[type(value) is not kind for value in row] for row in values], dtype=bool)
        if dtype is not object and not wrong.any():
            typed = values.astype(dtype)
    else:
        with np.errstate(all="ignore"):
            typed = values.astype(dtype)
            wrong = ~np.isfinite(typed) if typed.dtype.kind == "f" else typed.astype(values.dtype) != values
    if wrong.any():
        row, place = (int(index[0]) for index in np.nonzero(wrong))
        value = values[row, place]
        is_null = value is None or value != value
        told = "null, which it has not," if is_null else repr(value if isinstance(value, str) else value.item())[:80]
        raise RowsRefused(f"row {row} has {told} where its input {tensor.name} takes {tensor.datatype}")
    shape = [len(values), *tensor.shape[1:]]
    return typed.reshape([size if size != -1 else values.shape[1] for size in shape])


def outputs_of(tensors: Sequence[tuple[str, Sequence[int], Sequence[Any] | NDArray[Any]]], rows: int) -> Outputs:
    """Outputs by name from each tensor's name, shape and values in one line: `predict`, or else the
    first, is what the model predicts. Raises ModelError for what does not fit `rows`.
    """
    if not tensors:
        raise ModelError("its answer has no output")
    names = [name for name, _, _ in tensors]
    if len(set(names)) < len(names):
        raise ModelError("its answer has two outputs of one name")
    outputs: Outputs = {}
    for position, (name, shape, values) in enumerate(tensors):
        known = "predict" if "predict" not in names and position == 0 else name
        outputs[known] = _by_row(name, shape, values, rows)
    return outputs


def _by_row(name: str, shape: Sequence[int], values: Sequence[Any] | NDArray[Any], rows: int) -> list[Any]:
    if not shape or shape[0] != rows or min(shape) < 0 or math.prod(shape) != len(values):
        told = [*map(int, shape)][:8]
        raise ModelError(f"its output {name[:80]} has shape {told} and {len(values)} values for {rows} rows")
    array = np.asarray(values)
    if rows:
        check_finite(f"its output {name[:80]}", array.reshape(rows, -1))
    if array.dtype.kind not in "biuf":  # text: numpy's own would cut zeros off its end
        array = np.empty(len(values), dtype=object)
        array[:] = values
    whole = list(shape)
    while len(whole) > 1 and whole[-1] == 1:
        whole.pop()
    answer: list[Any] = array.reshape(whole).tolist()
    return answer
