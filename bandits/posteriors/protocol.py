"""What inference asks of a posterior, whatever its family."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Posterior(Protocol):
    """The distribution of an arm's mean reward (scalar parameters) or of several arms' (array
    parameters)."""

    @property
    def mean(self) -> Any: ...
    def pdf(self, x: Any) -> Any: ...
    def cdf(self, x: Any) -> Any: ...
    def quantile(self, q: Any) -> Any: ...
    def sample(self, rng: np.random.Generator, size: Any = None) -> Any: ...
