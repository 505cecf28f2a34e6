"""Python models for tests: on the allow-list of the test settings."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def zeros(rows: Rows) -> NDArray[np.int64]:
    return np.zeros(len(rows), dtype=np.int64)


def ones(rows: Rows) -> NDArray[np.int64]:
    return np.ones(len(rows), dtype=np.int64)


def raises(rows: Rows) -> Rows:
    raise RuntimeError("this model always raises")


def sleeps(rows: Rows) -> Rows:
    time.sleep(2.0)
    return rows[:, 0]


def short(rows: Rows) -> Rows:
    return np.zeros(0)


def not_finite(rows: Rows) -> Rows:
    return np.full(len(rows), np.nan)


NOT_CALLABLE = 3


def sums(rows: Rows) -> NDArray[np.float64]:
    """The rows' sums."""
    return np.asarray(rows).sum(axis=1)


def nearly_sums(rows: Rows) -> NDArray[np.float64]:
    """The rows' sums, off by a quarter where they are odd."""
    sums_ = np.asarray(rows).sum(axis=1)
    return sums_ + 0.25 * (sums_ % 2 == 1)


def far_off(rows: Rows) -> NDArray[np.float64]:
    """The rows' sums, and next to the largest number where they are odd."""
    sums_ = np.asarray(rows).sum(axis=1)
    return np.where(sums_ % 2 == 1, 1e308, sums_)


def told(columns: Mapping[str, NDArray[Any]]) -> list[str]:
    """What each row holds, in words: of a model with typed columns."""
    return [
        " ".join(f"{name}={value}" for name, value in zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


_KEPT: list[bytes] = []


def leaks(rows: Rows) -> NDArray[np.float64]:
    """The rows' sums, and 50 MB that are never given back."""
    _KEPT.append(b"x" * (50 * 2**20))
    return np.asarray(rows).sum(axis=1)


GATE = threading.Event()
"""What `tests.loaded_slowly` waits for while it is imported."""


def sleeps_for_many(rows: Rows) -> NDArray[np.int64]:
    """At once for a row, and not in time for many."""
    time.sleep(0.0 if len(rows) == 1 else 0.02 * len(rows))
    return np.zeros(len(rows), dtype=np.int64)


def lengths(rows: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Of each row's first value, as often as its second says; that is once where it says
    nothing."""
    words, times = list(rows.values())[:2]
    return np.array(
        [len(word) * (1 if np.isnan(often) else int(often)) for word, often in zip(words, times, strict=True)]
    )


CALLS: list[NDArray[np.float64]] = []
"""The rows of every call of `counted` and `counted_slowly`, in order."""


def counted(rows: Rows) -> NDArray[np.float64]:
    """The rows' sums, and each call is noted."""
    CALLS.append(np.array(rows))
    return np.asarray(rows).sum(axis=1)


def counted_slowly(rows: Rows) -> NDArray[np.float64]:
    CALLS.append(np.array(rows))
    time.sleep(0.3)
    return np.asarray(rows).sum(axis=1)


def counted_and_sleeping(rows: Rows) -> Rows:
    CALLS.append(np.array(rows))
    return sleeps(rows)


def counted_failing(rows: Rows) -> NDArray[np.float64]:
    CALLS.append(np.array(rows))
    raise RuntimeError("this model always raises")


def tenfold(rows: Rows) -> NDArray[np.float64]:
    """Ten times the rows' sums, or infinite."""
    with np.errstate(over="ignore"):
        return 10.0 * np.asarray(rows).sum(axis=1)
