"""Does a model answer each row by that row and its file alone? Runs only in the inspecting child
process.

Not all do that scikit-learn takes for estimators: some draw their answers, some draw them from a
seed by a row's place in the call, and some fit what they answer to the rows of the call together.
"""

import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtimes.columns import Rows, Table
from serving.runtimes.runtime import Outputs, Runtime

_ROWS = 256
_ALONE = 8
_SECONDS = 4.0  # for all calls together, about
_WITH_NULLS = 64
_ROUNDING = 1e-6  # of the largest number of an output: other calls may sum in another order


def answers_by_row(runtime: Runtime, rows: Rows) -> bool:
    """Asked on rows that it answers, at least one: twice, in the other order, and some by
    themselves. False where any answer differs by more than rounding, or one does not come."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            asked = rows[_chosen(runtime, rows)]
            together = runtime.predict(asked)
            backwards = {name: values[::-1] for name, values in runtime.predict(asked[::-1]).items()}
            if not _alike(together, runtime.predict(asked)) or not _alike(together, backwards):
                return False
            for place in range(min(_ALONE, len(asked))):
                expected = {name: values[place : place + 1] for name, values in together.items()}
                if not _alike(runtime.predict(asked[place : place + 1]), expected):
                    return False
    except Exception:  # whatever a model raises that answered these rows before
        return False
    return True


def _chosen(runtime: Runtime, rows: Rows) -> NDArray[np.intp]:
    """The places of as many rows as there is time for, from the whole of them; those with a null
    first, for what is drawn may be drawn in its place alone."""
    few = rows[np.arange(min(_ALONE, len(rows)))]
    began = time.perf_counter()
    runtime.predict(few)
    each = (time.perf_counter() - began) / len(few)
    most = int(min(_ROWS, max(_ALONE, _SECONDS / 4 / max(each, 1e-9))))
    nulls = np.flatnonzero(_null(rows))[:_WITH_NULLS]
    spread = np.linspace(0, len(rows) - 1, num=min(most, len(rows))).astype(np.intp)
    both = np.concatenate((nulls[:: max(1, len(nulls) // (_ALONE // 2))], spread, nulls))
    first = np.sort(np.unique(both, return_index=True)[1])
    return both[first][:most]


def _null(rows: Rows) -> NDArray[np.bool_]:
    """Which rows have one."""
    if not isinstance(rows, Table):
        return np.asarray(np.isnan(rows).any(axis=1))
    null = np.zeros(len(rows), dtype=bool)
    for array in rows.arrays:
        null |= np.array([value is None or value != value for value in array.tolist()], dtype=bool)
    return null


def _alike(one: Outputs, other: Outputs) -> bool:
    return one.keys() == other.keys() and all(_is_close(values, other[name]) for name, values in one.items())


def _is_close(one: list[Any], other: list[Any]) -> bool:
    try:
        ours, theirs = np.asarray(one), np.asarray(other)
    except ValueError:  # lists of unlike lengths
        return one == other
    if ours.dtype.kind != "f" or theirs.dtype.kind != "f":
        return bool(np.array_equal(ours, theirs))
    largest = float(np.abs(ours).max(initial=0.0))
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=0.0, atol=_ROUNDING * largest))
