"""Rows as people give them to a router in Python, checked as the service checks what it is sent as
JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.field_errors import FieldError
from serving.runtimes.columns import Rows
from serving.runtimes.rows import MAX_ERRORS, RowsInvalid, TakesRows, to_rows


def rows_of(inputs: Any, model: TakesRows) -> Rows:
    """Rows as the model takes them: of an (n, features) array, or of rows as lists or mappings.
    Raises RowsInvalid."""
    if isinstance(inputs, np.ndarray):
        return to_rows(inputs, model)
    if isinstance(inputs, str | bytes | Mapping) or not isinstance(inputs, Sequence) or not inputs:
        raise RowsInvalid([{"field": "inputs", "message": "rows were expected, at least one"}])
    rows = [_row(i, row) for i, row in enumerate(inputs)]
    if model.columns is None:
        errors = [
            FieldError(field=f"inputs[{i}][{name!r}]", message="a finite number was expected")
            for i, row in enumerate(rows)
            for name, value in (row.items() if isinstance(row, dict) else enumerate(row))
            if not _is_number(value)
        ]
        if errors:
            raise RowsInvalid(errors[:MAX_ERRORS])
    return to_rows(rows, model)


def _row(place: int, row: Any) -> list[Any] | dict[str, Any]:
    if isinstance(row, np.ndarray):
        row = row.tolist()
    if isinstance(row, Mapping):
        return {name: _plain(value) for name, value in row.items()}
    if isinstance(row, str | bytes) or not isinstance(row, Sequence):
        raise RowsInvalid([{"field": f"inputs[{place}]", "message": "a list or an object was expected"}])
    return [_plain(value) for value in row]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every double
        return False
