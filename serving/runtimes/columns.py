"""Typed columns: what a model's rows hold where they are not plain numbers, and rows as one array a
column.

A model without columns takes an (n, features) array of doubles. So does one whose columns are all
numbers, with NaN for null. Only where a column is of another type are rows a `Table`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ColumnType = Literal["number", "integer", "boolean", "string"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a model's rows; a row's value may be null where it is `nullable`."""

    name: str
    type: ColumnType = "number"
    nullable: bool = False

    def __str__(self) -> str:
        return f"{self.type}, nullable" if self.nullable else self.type


Columns = tuple[Column, ...]


class Table:
    """Rows (n, columns) as one array of n values a column, in the model's order.

    An array's dtype follows from its column alone: doubles for numbers and for integers that are
    nullable (null is NaN), int64 for other integers, bool for booleans, objects for strings and for
    booleans that are nullable (null is None).
    """

    __slots__ = ("arrays", "columns")

    def __init__(self, columns: Columns, arrays: Sequence[NDArray[Any]]) -> None:
        """`arrays` are as `dtype_of` has them, all of one length, at least one."""
        self.columns = columns
        self.arrays = tuple(arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, places: Any) -> "Table":
        """The rows at these places: a slice, or an array of indices or of truths."""
        return Table(self.columns, [array[places] for array in self.arrays])

    def by_name(self) -> dict[str, NDArray[Any]]:
        return {column.name: array for column, array in zip(self.columns, self.arrays, strict=True)}

    def tolist(self) -> list[list[Any]]:
        """JSON-ready values a row, null where there is none. Integers stay integers."""
        return [list(row) for row in zip(*map(_plain, self.columns, self.arrays), strict=True)]


Rows = NDArray[np.float64] | Table
"""What a runtime's `predict` takes; which of the two follows from its model's columns."""


def dtype_of(column: Column) -> np.dtype[Any]:
    """Of the array that holds the column's values."""
    match column.type:
        case "number":
            return np.dtype(np.float64)
        case "integer":
            return np.dtype(np.float64 if column.nullable else np.int64)
        case "boolean":
            return np.dtype(object if column.nullable else np.bool_)
        case "string":
            return np.dtype(object)


def are_numbers(columns: Columns | None) -> bool:
    """Are rows of these columns an array of doubles?"""
    return columns is None or all(column.type == "number" for column in columns)


def rows_from(columns: Columns, arrays: Sequence[NDArray[Any]]) -> Rows:
    """What a runtime takes, of arrays as `dtype_of` has them."""
    if are_numbers(columns):
        return np.stack(arrays, axis=1)
    return Table(columns, arrays)


def as_numbers(rows: Rows) -> NDArray[np.float64]:
    """An (n, columns) array of rows without strings: truths are 1 and 0. Raises TypeError for a
    truth that is null."""
    if isinstance(rows, Table):
        return np.stack([array.astype(np.float64, copy=False) for array in rows.arrays], axis=1)
    return rows


def _plain(column: Column, array: NDArray[Any]) -> list[Any]:
    values: list[Any] = array.tolist()
    if array.dtype.kind != "f":
        return values
    whole = column.type == "integer"
    return [None if value != value else int(value) if whole else value for value in values]
