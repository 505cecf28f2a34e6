"""Whose fault it is that a model's answer is no finite number: of a row whose own numbers are too
large for the model's arithmetic it is the caller's, of any other row the model's.

Told by the rows alone. A model that answers NaN to ordinary rows fails, as ever; a caller who sends
1e308 is told so, and neither opens an arm's breaker nor counts against it.
"""

import numpy as np
from numpy.typing import NDArray

from serving.problems import FieldError

from .columns import Rows, Table
from .protocol import LARGEST_SINGLE, NotFinite, RowsRefused
from .rows import MAX_ERRORS


def errors_of_caller(rows: Rows, error: NotFinite | RowsRefused) -> list[FieldError]:
    """What is wrong with the rows that a model did not answer; empty where the fault is its own.

    Of rows that a model refuses nobody knows which it means: those that are too large, where some
    are.
    """
    if isinstance(error, NotFinite):
        too_large = are_too_large(rows, error.largest)
        if error.wrong.shape != too_large.shape or (error.wrong & ~too_large).any():
            return []
        blamed, largest = error.wrong, error.largest
    else:
        blamed, largest = are_too_large(rows, LARGEST_SINGLE), LARGEST_SINGLE
    message = f"a number beyond {largest:g}, either way, is too large for this model's arithmetic"
    return [{"field": f"inputs[{i}]", "message": message} for i in np.flatnonzero(blamed)[:MAX_ERRORS].tolist()]


def are_too_large(rows: Rows, largest: float) -> NDArray[np.bool_]:
    """Which rows hold a number beyond `largest`, either way, (n,)."""
    if not isinstance(rows, Table):
        return np.asarray((np.abs(rows) > largest).any(axis=1))
    found = np.zeros(len(rows), dtype=np.bool_)
    for array in rows.arrays:
        if array.dtype.kind in "if":
            found |= np.asarray(np.abs(array.astype(np.float64)) > largest)  # NaN, which is null, is not
    return found
