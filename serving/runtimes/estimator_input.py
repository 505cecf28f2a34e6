"""What a scikit-learn estimator is given for rows of columns: the kind of table that it was fitted
on.

pandas is imported only where a model was fitted on its tables, and rows hold more than numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Rows, Table
from .estimator_columns import ColumnFacts, facts_of, is_text_reader

Given = Callable[[Rows], Any]


def given_by(estimator: Any, features: int) -> Given:
    """How this estimator's rows are made of a runtime's. An array of numbers is given as it is."""
    facts = facts_of(estimator, features)
    if is_text_reader(estimator):
        return lambda rows: rows.arrays[0] if isinstance(rows, Table) else rows
    if getattr(estimator, "feature_names_in_", None) is not None:
        return _Frames([str(name) for name in estimator.feature_names_in_], facts)
    return lambda rows: _objects(rows, facts) if isinstance(rows, Table) else rows


class _Frames:
    """Rows as a DataFrame with the names that the estimator was fitted on."""

    def __init__(self, names: Sequence[str], facts: Sequence[ColumnFacts]) -> None:
        self._names = names
        self._facts = facts
        self._pandas: Any = None

    def __call__(self, rows: Rows) -> Any:
        if not isinstance(rows, Table):
            return rows
        if self._pandas is None:
            import pandas

            self._pandas = pandas
        series = {
            # Its own type would be guessed from the values, and others' nulls stand for None.
            name: self._pandas.Series(with_missing(array, facts), dtype=array.dtype)
            for name, array, facts in zip(self._names, rows.arrays, self._facts, strict=True)
        }
        return self._pandas.DataFrame(series, copy=False)


def _objects(rows: Table, facts: Sequence[ColumnFacts]) -> NDArray[Any]:
    """An (n, columns) array of objects, as a model of lists and arrays of mixed values was fitted
    on."""
    table = np.empty((len(rows), len(rows.arrays)), dtype=object)
    for place, array in enumerate(rows.arrays):
        table[:, place] = with_missing(array, facts[place])
    return table


def with_missing(array: NDArray[Any], facts: ColumnFacts) -> NDArray[Any]:
    """A column with the missing value that the model knows in the place of null."""
    if array.dtype.kind != "O" or facts.missing is None:
        return array
    missing = [value is None for value in array.tolist()]
    if not any(missing):
        return array
    filled = array.copy()
    filled[missing] = facts.missing
    return filled
