"""Rows as the tensors of the Open Inference Protocol, and tensors of an answer as outputs by name.
How they travel, as JSON or by gRPC, never enters this module.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.runtimes.protocol import ModelError, Outputs, RowsRefused

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
"""The protocol's datatypes of numbers; BYTES, the text, has none."""

MOST_OUTPUTS = 64


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
        if tensor.datatype not in DTYPES:
            raise LayoutUnknown(f"its input {tensor.name} takes {tensor.datatype}: numbers alone can be sent")
        if not tensor.shape or tensor.shape[0] != -1:
            raise LayoutUnknown(f"its input {tensor.name} has shape {tensor.shape}: -1 was expected first, for rows")
    if len(inputs) > 1:
        for tensor in inputs:
            if math.prod(tensor.shape[1:]) != 1:
                raise LayoutUnknown(f"its input {tensor.name} has shape {tensor.shape} beside others: a column has one")
        return len(inputs)
    rest = inputs[0].shape[1:] if inputs else [-1]
    if -1 not in rest:
        return math.prod(rest)
    if len(rest) > 1:
        raise LayoutUnknown(f"its input {inputs[0].name} has shape {inputs[0].shape}: only the rows may be -1")
    return None


def laid_out(inputs: Sequence[Tensor], rows: NDArray[np.float64]) -> list[tuple[Tensor, NDArray[Any]]]:
    """Each input with its values, (n, ...) of its datatype. Raises RowsRefused for a value that the
    datatype has not.
    """
    if not inputs:
        inputs = (UNNAMED,)
    columns = [rows] if len(inputs) == 1 else [rows[:, i] for i in range(len(inputs))]
    return [(tensor, _typed(tensor, values)) for tensor, values in zip(inputs, columns, strict=True)]


def _typed(tensor: Tensor, values: NDArray[np.float64]) -> NDArray[Any]:
    dtype = DTYPES[tensor.datatype]
    with np.errstate(all="ignore"):
        typed: NDArray[Any] = values.astype(dtype)
        wrong = ~np.isfinite(typed) if typed.dtype.kind == "f" else typed.astype(np.float64) != values
    if wrong.any():
        row = int(np.nonzero(wrong.reshape(len(values), -1).any(axis=1))[0][0])
        value = values.reshape(len(values), -1)[row][wrong.reshape(len(values), -1)[row]][0]
        raise RowsRefused(f"row {row} has {value:g} where its input {tensor.name} takes {tensor.datatype}")
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
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(f"its output {name[:80]} is not finite")
    if array.dtype.kind not in "biuf":  # text: numpy's own would cut zeros off its end
        array = np.empty(len(values), dtype=object)
        array[:] = values
    whole = list(shape)
    while len(whole) > 1 and whole[-1] == 1:
        whole.pop()
    answer: list[Any] = array.reshape(whole).tolist()
    return answer
