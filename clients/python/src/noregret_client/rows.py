"""Tables as the platform takes them: a DataFrame, an array or lists become rows of JSON, and a
table's dtypes become columns.

pandas, polars and numpy are not imported here: what was passed brings its library with it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from .documents import Column, ColumnType

Row = list[Any] | dict[str, Any]

_PANDAS_KINDS: Mapping[str, ColumnType] = {"f": "number", "i": "number", "u": "number", "b": "boolean"}


def rows_of(table: Any) -> list[Row]:
    """Rows as lists, or as objects by column name where the table has names that are texts.

    Takes a DataFrame of pandas or polars, an Arrow table, a two-dimensional array, or rows as lists
    or objects; texts are rows of one column. Gaps (None, NaN, NaT, NA) become None. Raises
    TypeError for a value that JSON has no form for, with its place.
    """
    if is_texts(table):
        return [[_plain(text, f"[{i}]")] for i, text in enumerate(table)]
    if _is_pandas(table):
        names = list(table.columns)
        _each_once(names)
        columns = [[_plain(value, name) for value in table[name].tolist()] for name in names]
        values = zip(*columns, strict=True)
        if names and all(isinstance(name, str) for name in names):
            return [dict(zip(names, row, strict=True)) for row in values]
        return [list(row) for row in values]
    for method in ("to_dicts", "to_pylist"):  # polars, Arrow
        if hasattr(table, method) and hasattr(table, "columns"):
            _each_once(getattr(table, "column_names", None) or table.columns)
            return [_row(row, i) for i, row in enumerate(getattr(table, method)())]
    if hasattr(table, "toarray"):  # sparse
        table = table.toarray()
    if hasattr(table, "ndim") and hasattr(table, "tolist"):
        if table.ndim != 2:
            raise TypeError(f"rows: an array of two dimensions was expected, not of {table.ndim}")
        kind = getattr(table.dtype, "kind", "O")
        is_double = kind == "f" and table.dtype.itemsize <= 8
        # A sum is finite only where every value is: then no value needs a look of its own.
        if kind in "iub" or (is_double and math.isfinite(float(table.sum()))):
            whole: list[Row] = table.tolist()
            return whole
        table = table.tolist()
    if isinstance(table, str | bytes | Mapping) or not isinstance(table, Iterable):
        raise TypeError(f"rows: a table, an array or a list of rows was expected, not {type(table).__name__}")
    return [_row(row, i) for i, row in enumerate(table)]


def columns_of(table: Any) -> list[Column] | None:
    """The columns that a DataFrame's dtypes tell; None for what has no columns with names that are
    texts. Whole numbers are `number`: that a sample has no others does not say that there are
    none."""
    if _is_pandas(table):
        if not all(isinstance(name, str) for name in table.columns):
            return None
        return [Column(name, _column_type(table[name]), bool(table[name].isna().any())) for name in table.columns]
    rows = rows_of(table) if hasattr(table, "columns") else []
    if not rows or not isinstance(rows[0], dict):
        return None
    told = []
    for name in rows[0]:
        values = [row[name] for row in rows if isinstance(row, dict)]
        told.append(Column(name, _type_of_values(values, name), None in values))
    return told


def sample_of(table: Any, most: int) -> Any:
    """At most so many rows of a table, evenly spread over it, in their order, as what the table
    is."""
    count = int(table.shape[0]) if hasattr(table, "shape") else len(table)
    if count <= most:
        return table
    places = [i * count // most for i in range(most)]
    if _is_pandas(table):
        return table.iloc[places]
    if hasattr(table, "shape"):
        return table[places]
    return [table[i] for i in places]


def is_texts(table: Any) -> bool:
    """Is it a list, an array or a column of texts, as models of one text are fitted on?"""
    if isinstance(table, list | tuple):
        return bool(table) and all(isinstance(text, str) for text in table)
    return getattr(table, "ndim", 0) == 1 and len(table) > 0 and all(isinstance(text, str) for text in table)


def _is_pandas(table: Any) -> bool:
    return hasattr(table, "iloc") and hasattr(table, "columns")


def _each_once(names: Sequence[Any]) -> None:
    """A row by name has room for one of them. Raises TypeError."""
    seen: set[Any] = set()
    for name in names:
        if name in seen:
            raise TypeError(f"column {name}: the table has it twice")
        seen.add(name)


def _column_type(series: Any) -> ColumnType:
    dtype = series.dtype
    if hasattr(dtype, "categories"):
        dtype = dtype.categories.dtype
    kind = getattr(dtype, "kind", "O")
    if kind in _PANDAS_KINDS:
        return _PANDAS_KINDS[kind]
    return _type_of_values([_plain(value, series.name) for value in series.tolist()], str(series.name))


def _type_of_values(values: Sequence[Any], name: str) -> ColumnType:
    """What all values of a column are, gaps apart."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return "boolean" if kinds else "number"
    if kinds <= {str}:
        return "string"
    if kinds <= {int, float}:
        return "number"
    named = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"column {name}: values of one type were expected, not {named}")


def _row(row: Any, place: int) -> Row:
    if isinstance(row, Mapping):
        return {name: _plain(value, f"[{place}].{name}") for name, value in row.items()}
    if hasattr(row, "tolist"):
        row = row.tolist()
    if isinstance(row, str | bytes) or not isinstance(row, Iterable):
        raise TypeError(f"rows[{place}]: a list or an object was expected, not {type(row).__name__}")
    return [_plain(value, f"[{place}][{i}]") for i, value in enumerate(row)]


def _plain(value: Any, place: Any) -> Any:
    """A value as JSON has it."""
    kind = type(value)
    if kind is bool or kind is int or value is None:
        return value
    if kind is str:
        if not value.isascii() and _has_surrogate(value):
            raise TypeError(f"{_at(place)}: a half of a surrogate pair has no form in JSON")
        return value
    if kind is float:
        if math.isinf(value):
            raise TypeError(f"{_at(place)}: infinity has no form in JSON")
        return None if math.isnan(value) else value
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a scalar of numpy
        plain = value.item()
        if type(plain) is kind:  # of more digits than Python's own
            plain = float(value)
        return _plain(plain, place)
    if kind.__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, str):  # also numpy's
        return _plain(str(value), place)
    if isinstance(value, Decimal):
        return _plain(float(value), place)
    raise TypeError(f"{_at(place)}: {kind.__name__} has no form in JSON; turn it into a number or a text")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _at(place: Any) -> str:
    return f"rows{place}" if str(place).startswith("[") else f"column {place}"
