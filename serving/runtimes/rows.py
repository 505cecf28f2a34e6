"""Rows of a request as an array, or what is wrong with them, row by row and feature by feature."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.problems import FieldError

MAX_ERRORS = 20


class RowsInvalid(ValueError):
    """Rows that the model can't take; `errors` says which and why."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(errors[0]["message"] if errors else "")
        self.errors = errors


def to_array(
    inputs: Sequence[Sequence[float] | dict[str, float]], features: int | None, names: Sequence[str] | None
) -> NDArray[np.float64]:
    """Rows (n, features) in the model's order of features; their values are already known to be
    finite numbers.

    `features` None: any number, the same in every row. Raises RowsInvalid.
    """
    rows = inputs
    if any(isinstance(row, dict) for row in inputs):
        rows = _by_position(inputs, names)
    width = features if features is not None else len(rows[0])
    wanted = f"{width} were expected" if features is not None else f"the first row has {width}"
    if width == 0:
        raise RowsInvalid([{"field": "inputs[0]", "message": "a row without features"}])
    errors: list[FieldError] = [
        {"field": f"inputs[{i}]", "message": f"{len(row)} features where {wanted}"}
        for i, row in enumerate(rows)
        if len(row) != width
    ]
    if errors:
        raise RowsInvalid(errors[:MAX_ERRORS])
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def _by_position(inputs: Sequence[Any], names: Sequence[str] | None) -> list[Sequence[float]]:
    if names is None:
        first = next(i for i, row in enumerate(inputs) if isinstance(row, dict))
        message = "this model knows no names of features: send the row as a list"
        raise RowsInvalid([{"field": f"inputs[{first}]", "message": message}])
    errors: list[FieldError] = []
    rows: list[Sequence[float]] = []
    known = set(names)
    for i, row in enumerate(inputs):
        if not isinstance(row, dict):
            rows.append(row)
            continue
        errors += [{"field": f"inputs[{i}].{name}", "message": "missing feature"} for name in names if name not in row]
        errors += [{"field": f"inputs[{i}].{name}", "message": "unknown feature"} for name in row if name not in known]
        rows.append([row.get(name, 0.0) for name in names])
    if errors:
        raise RowsInvalid(errors[:MAX_ERRORS])
    return rows
