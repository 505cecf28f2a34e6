"""Rows of a request as a runtime takes them, or what is wrong with them, row by row and column by
column."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.field_errors import FieldError

from .columns import Column, Columns, Rows, Table, dtype_of, rows_from

MAX_ERRORS = 20
_NAME = 64  # characters of a column's name that an error repeats
_EXACT = 2**53  # beyond it not every integer is a double

_EXPECTED = {"number": "a number", "integer": "an integer", "boolean": "true or false", "string": "a string"}
_JSON_TYPES = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


class RowsInvalid(ValueError):
    """Rows that the model can't take; `errors` says which and why."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error['field']}: {error['message']}" for error in errors))
        self.errors = errors


class TakesRows(Protocol):
    """What says which rows a model takes: a Model of the snapshot."""

    @property
    def features(self) -> int | None: ...

    @property
    def feature_names(self) -> list[str] | None: ...

    @property
    def columns(self) -> Columns | None: ...


def to_rows(inputs: Sequence[Any] | Rows, model: TakesRows) -> Rows:
    """Rows as this model's runtime takes them. What is an array or a Table already came from
    `from_columns`, or is an (n, features) array.

    For a model without columns the values of lists and objects are already known to be finite
    numbers. Raises RowsInvalid.
    """
    if model.columns is None:
        if type(inputs) is list:
            return to_array(inputs, model.features, model.feature_names)
        if isinstance(inputs, np.ndarray):
            return checked_array(inputs, model.features)
        if isinstance(inputs, Table):
            raise RowsInvalid([{"field": "inputs", "message": "this model takes numbers alone"}])
        return to_array(inputs, model.features, model.feature_names)
    if isinstance(inputs, Table):
        return from_columns(inputs.by_name(), model.columns)
    if isinstance(inputs, np.ndarray):
        return _from_matrix(inputs, model.columns)
    return to_table(inputs, model.columns)


def to_array(
    inputs: Sequence[Sequence[float] | dict[str, float]], features: int | None, names: Sequence[str] | None
) -> NDArray[np.float64]:
    """Rows (n, features) in the model's order of features; their values are already known to be
    finite numbers.

    `features` None: any number, the same in every row. Raises RowsInvalid.
    """
    rows: Sequence[Any] = inputs
    if any(isinstance(row, dict) for row in inputs):
        rows = _by_position(inputs, names)
    width = features if features is not None else len(rows[0])
    _check_widths(rows, width, is_known=features is not None)
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def checked_array(rows: NDArray[Any], features: int | None) -> NDArray[np.float64]:
    """An (n, features) array of finite numbers, as doubles. Raises RowsInvalid."""
    if rows.ndim != 2 or 0 in rows.shape or (features is not None and rows.shape[1] != features):
        wanted = f"(rows, {features})" if features is not None else "(rows, features)"
        raise RowsInvalid([{"field": "inputs", "message": f"shape {rows.shape} where {wanted} was expected"}])
    if rows.dtype.kind not in "iuf":
        raise RowsInvalid([{"field": "inputs", "message": "numbers were expected"}])
    array = rows.astype(np.float64, copy=False)
    wrong = np.argwhere(~np.isfinite(array))[:MAX_ERRORS].tolist()
    if wrong:
        raise RowsInvalid([{"field": f"inputs[{i}][{j}]", "message": "a finite number was expected"} for i, j in wrong])
    return array


def to_table(inputs: Sequence[Any], columns: Columns) -> Rows:
    """Rows of JSON values, as lists or as objects by column name, in the model's order of columns.
    Raises RowsInvalid."""
    rows = inputs
    if any(isinstance(row, dict) for row in inputs):
        rows = _by_position(inputs, [column.name for column in columns])
    _check_widths(rows, len(columns), is_known=True)
    errors: list[FieldError] = []
    arrays = []
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        arrays.append(_array(column, values, errors))
    if errors:
        raise RowsInvalid(errors[:MAX_ERRORS])
    return rows_from(columns, arrays)


def from_columns(given: Mapping[str, Sequence[Any] | NDArray[Any]], columns: Columns) -> Rows:
    """Rows from the values of each column by its name, all of one length: lists, or arrays of one
    dimension. NaN is null. Raises RowsInvalid; its fields are the columns'
    names, and within one `inputs[ROW].COLUMN` as for rows.
    """
    names = {column.name for column in columns}
    errors: list[FieldError] = [
        {"field": column.name[:_NAME], "message": f"missing column: {_EXPECTED[column.type]} a row was expected"}
        for column in columns
        if column.name not in given
    ]
    errors += [{"field": name[:_NAME], "message": "unknown column"} for name in given if name not in names]
    if errors:
        raise RowsInvalid(errors[:MAX_ERRORS])
    count = len(given[columns[0].name])
    for column in columns:
        values = given[column.name]
        if isinstance(values, np.ndarray) and values.ndim != 1:
            message = f"shape {values.shape} where a value a row was expected"
            errors.append({"field": column.name[:_NAME], "message": message})
        elif len(values) != count or not count:
            message = f"{len(values)} values where {columns[0].name[:_NAME]} has {count}: a value a row was expected"
            errors.append({"field": column.name[:_NAME], "message": message})
    if errors:
        raise RowsInvalid(errors[:MAX_ERRORS])
    arrays = [_array(column, given[column.name], errors) for column in columns]
    if errors:
        raise RowsInvalid(errors[:MAX_ERRORS])
    return rows_from(columns, arrays)


def _from_matrix(rows: NDArray[Any], columns: Columns) -> Rows:
    """Of one array (n, columns), in the columns' order."""
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        message = f"shape {rows.shape} where (rows, {len(columns)}) was expected"
        raise RowsInvalid([{"field": "inputs", "message": message}])
    return from_columns({column.name: rows[:, place] for place, column in enumerate(columns)}, columns)


def _array(column: Column, values: Sequence[Any] | NDArray[Any], errors: list[FieldError]) -> NDArray[Any]:
    """A column's values as `dtype_of` has them; what is wrong with them is added to `errors`."""
    wanted = dtype_of(column)
    if isinstance(values, np.ndarray):
        if values.dtype == wanted and wanted.kind in "ib":
            return values
        if wanted.kind == "f" and column.type == "number" and values.dtype.kind in "iuf":
            array = values.astype(np.float64)
            if np.isfinite(array).all():
                return array
        values = values.tolist()
    if column.type == "number" and set(map(type, values)) == {float}:
        array = np.array(values, dtype=np.float64)
        if np.isfinite(array).all():
            return array
    taken: list[Any] = []
    for i, value in enumerate(values):
        value = None if value != value else value  # NaN, of arrays
        problem = None if value is None and column.nullable else _problem(column, value)
        if problem is not None:
            if len(errors) < MAX_ERRORS:
                errors.append({"field": f"inputs[{i}].{column.name[:_NAME]}", "message": problem})
            value = None
        taken.append(value)
    if errors:
        return np.empty(len(taken), dtype=wanted)
    if wanted.kind == "O":
        array = np.empty(len(taken), dtype=object)
        array[:] = taken
        return array
    return np.array([np.nan if value is None else value for value in taken], dtype=wanted)


def _problem(column: Column, value: Any) -> str | None:
    """What is wrong with a value, or None. True and false are no numbers."""
    expected = _EXPECTED[column.type] + (" or null" if column.nullable else "")
    if value is None:
        return f"{expected} was expected, not null: the column is not nullable"
    kind = type(value)
    match column.type:
        case "string":
            is_right = kind is str
        case "boolean":
            is_right = kind is bool
        case "number":
            is_right = kind in (int, float)
        case "integer":
            is_right = kind is int or (kind is float and value.is_integer())
    if not is_right:
        if column.type == "integer" and kind is float:
            return f"{expected} was expected, not a number with a fraction"
        return f"{expected} was expected, not {_JSON_TYPES.get(kind, 'that')}"
    if column.type == "number":
        try:
            is_finite = abs(float(value)) != float("inf")
        except OverflowError:
            is_finite = False
        return None if is_finite else "a finite number was expected"
    if column.type == "integer":
        most = _EXACT if column.nullable else 2**63 - 1
        if not -most <= value <= most:
            return f"an integer of at most {most} was expected, with either sign"
    return None


def _check_widths(rows: Sequence[Sequence[Any]], width: int, *, is_known: bool) -> None:
    """Raises RowsInvalid."""
    wanted = f"{width} were expected" if is_known else f"the first row has {width}"
    if width == 0:
        raise RowsInvalid([{"field": "inputs[0]", "message": "a row without features"}])
    errors: list[FieldError] = [
        {"field": f"inputs[{i}]", "message": f"{len(row)} features where {wanted}"}
        for i, row in enumerate(rows)
        if len(row) != width
    ]
    if errors:
        raise RowsInvalid(errors[:MAX_ERRORS])


def _by_position(inputs: Sequence[Any], names: Sequence[str] | None) -> list[Sequence[Any]]:
    if names is None:
        first = next(i for i, row in enumerate(inputs) if isinstance(row, dict))
        message = "this model knows no names of features: send the row as a list"
        raise RowsInvalid([{"field": f"inputs[{first}]", "message": message}])
    errors: list[FieldError] = []
    rows: list[Sequence[Any]] = []
    known = set(names)
    for i, row in enumerate(inputs):
        if not isinstance(row, dict):
            rows.append(row)
            continue
        errors += [
            {"field": f"inputs[{i}].{name[:_NAME]}", "message": "missing feature"} for name in names if name not in row
        ]
        errors += [
            {"field": f"inputs[{i}].{name[:_NAME]}", "message": "unknown feature"} for name in row if name not in known
        ]
        rows.append([row.get(name, 0.0) for name in names])
    if errors:
        raise RowsInvalid(errors[:MAX_ERRORS])
    return rows
