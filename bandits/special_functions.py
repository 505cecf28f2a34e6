"""scipy's special functions and distributions, or what stands for them where scipy is not.

An exported package carries these files beside numpy alone. What chooses there needs the normal
distribution, which the standard library has to the last digits; whoever needs another function
there is told so. Writing them anew in numpy was rejected: incomplete beta and gamma functions that
hold at counts of a million are a library's work.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NORMAL = NormalDist()
_ROOT_HALF = math.sqrt(0.5)


class Normal:
    """The standard normal distribution by the standard library, under the names that scipy.special
    has for it; any other name raises ModuleNotFoundError."""

    @staticmethod
    def ndtr(x: Any) -> Any:
        """P(X <= x)."""
        return _each(lambda value: 0.5 * math.erfc(-value * _ROOT_HALF), x)

    @staticmethod
    def ndtri(q: Any) -> Any:
        """The x with P(X <= x) = q, for q between 0 and 1, both out."""
        return _each(_NORMAL.inv_cdf, q)

    def __getattr__(self, name: str) -> Any:
        raise ModuleNotFoundError(f"{name} needs scipy, which is not installed here", name="scipy")


def _each(function: Callable[[float], float], values: Any) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return np.fromiter(map(function, array.ravel().tolist()), np.float64, array.size).reshape(array.shape)


special: Any
stats: Any
try:
    from scipy import special, stats
except ModuleNotFoundError:
    special = stats = Normal()
