"""Tensors of the Open Inference Protocol: from what came over the wire to arrays, and back.

Whatever a sender says of a tensor (its shape, its sizes) is held against the bytes that came before
anything is made of it. No protocol's framing and no model enters this module.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving import problems

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
"""What is kept of each datatype; of BYTES, text."""

MOST_TENSORS = 4096
"""Of a request: more columns than any model here has."""
_MOST_DIMENSIONS = 8
_MOST_ELEMENTS = 2**31
_NAME = 64  # characters of a tensor's name that an error repeats
_LENGTH = struct.Struct("<I")

_VALUES: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true and false were expected"),
    "u": (frozenset({int}), "integers of no sign were expected"),
    "i": (frozenset({int}), "integers were expected"),
    "f": (frozenset({int, float, type(None)}), "numbers were expected"),
    "O": (frozenset({str, type(None)}), "strings were expected"),
}
"""By the kind of a dtype: the types of JSON values that may stand for it."""


class Tensor(NamedTuple):
    """`array` has the tensor's shape; of BYTES it holds str, and None for what is missing."""

    name: str
    datatype: str
    array: NDArray[Any]


class Described(NamedTuple):
    """A tensor that a model takes or gives; -1 stands for any number."""

    name: str
    datatype: str
    shape: list[int]


def invalid(name: str, message: str) -> problems.Problem:
    """What is wrong with the tensor of this name."""
    return problems.invalid_fields([{"field": name[:_NAME], "message": message}])


def check_number(count: int) -> None:
    """Of a request's tensors, before any is read. Raises Problem 400."""
    if count > MOST_TENSORS:
        raise problems.invalid_fields([{"field": "inputs", "message": f"at most {MOST_TENSORS} tensors are taken"}])


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """Raises Problem 400 for a datatype that is not taken."""
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise invalid(name, f"datatype {datatype[:20]!r}: one of {', '.join(DTYPES)} was expected")
    return dtype


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> Tensor:
    """A tensor of raw contents: little-endian, row by row; of BYTES each element after its length.
    Raises Problem 400."""
    dtype = dtype_of(name, datatype)
    count = _count(name, shape)
    if datatype == "BYTES":
        values = _texts(name, count, data)
    else:
        expected = count * dtype.itemsize
        if len(data) != expected:
            raise invalid(name, f"{len(data)} bytes where shape {list(shape)} of {datatype} has {expected}")
        # A boolean is a byte that is 0 or not.
        values = np.frombuffer(data, dtype="u1") != 0 if datatype == "BOOL" else np.frombuffer(data, dtype=dtype)
    return Tensor(name, datatype, values.reshape(tuple(shape)))


def from_values(name: str, datatype: str, shape: Sequence[int], data: Sequence[Any]) -> Tensor:
    """A tensor of values, flat or nested as its shape is. null stands for NaN, and for no text.
    Raises Problem 400."""
    dtype = dtype_of(name, datatype)
    count = _count(name, shape)
    flat = _flattened(name, data, len(shape))
    if len(flat) != count:
        raise invalid(name, f"{len(flat)} values where shape {list(shape)} has {count}")
    allowed, expected = _VALUES[dtype.kind]
    if not set(map(type, flat)) <= allowed:
        raise invalid(name, f"its data is not all {datatype}: {expected}")
    if dtype.kind == "O":
        values = np.empty(count, dtype=object)
        values[:] = flat
    else:
        try:
            values = _numbers(flat, dtype)
        except OverflowError as error:
            raise invalid(name, f"a value is out of the range of {datatype}") from error
    return Tensor(name, datatype, values.reshape(tuple(shape)))


def to_bytes(tensor: Tensor) -> bytes:
    """The raw contents."""
    if tensor.datatype != "BYTES":
        return tensor.array.astype(DTYPES[tensor.datatype], copy=False).tobytes()
    parts: list[bytes] = []
    for text in tensor.array.ravel().tolist():
        element = text.encode()
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def _count(name: str, shape: Sequence[int]) -> int:
    """How many elements a shape has."""
    if len(shape) > _MOST_DIMENSIONS:
        raise invalid(name, f"{len(shape)} dimensions where at most {_MOST_DIMENSIONS} are taken")
    count = 1
    for size in shape:
        if size < 0:
            raise invalid(name, f"shape {list(shape)} has a negative size")
        count *= size
    if max(count, *shape, 0) > _MOST_ELEMENTS:  # a size of 0 hides the others in the product
        raise invalid(name, f"shape {list(shape)} has more elements than a request can bring")
    return count


def _flattened(name: str, data: Sequence[Any], levels: int) -> list[Any]:
    flat = list(data)
    for _ in range(levels - 1):
        if not flat or type(flat[0]) is not list:
            break
        if any(type(part) is not list for part in flat):
            raise invalid(name, "its data is nested here and flat there")
        flat = [value for part in flat for value in part]
    return flat


def _numbers(flat: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Raises OverflowError for an integer that is too large; other numbers are then infinite, and
    refused as such."""
    if dtype.kind != "f":
        return np.array(flat, dtype=dtype)
    doubles = np.array([np.nan if value is None else value for value in flat], dtype=np.float64)
    if dtype.itemsize == doubles.itemsize:
        return doubles
    with np.errstate(over="ignore"):
        return doubles.astype(dtype)


def _texts(name: str, count: int, data: memoryview) -> NDArray[Any]:
    if count > len(data) // _LENGTH.size:
        raise invalid(name, f"{len(data)} bytes hold no {count} elements of BYTES")
    values = np.empty(count, dtype=object)
    at = 0
    for i in range(count):
        if at + _LENGTH.size > len(data):
            raise invalid(name, f"its contents end before element {i}")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > len(data) - at:
            raise invalid(name, f"element {i} has {length} bytes by its length, and {len(data) - at} are left")
        try:
            values[i] = str(data[at : at + length], "utf-8")
        except UnicodeDecodeError as error:
            raise invalid(name, f"element {i} is no text in UTF-8") from error
        at += length
    if at != len(data):
        raise invalid(name, f"{len(data) - at} bytes are left after {count} elements of BYTES")
    return values
