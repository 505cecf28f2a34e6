"""Challengers that no champion should notice."""

import time

import numpy as np
from numpy.typing import NDArray

_KEPT: list[bytes] = []


def sleeps(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Answers after two seconds."""
    time.sleep(2.0)
    return np.zeros(len(rows))


def leaks(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keeps 50 MB of every call."""
    _KEPT.append(b"x" * (50 * 2**20))
    return np.zeros(len(rows))
