"""What serves a model: rows in, outputs by name out."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Outputs = dict[str, list[Any]]


class Runtime(Protocol):
    """A loaded model. Called from several threads at once."""

    bounded: bool
    """False for code that may hang or block whatever it took so far: each of its calls runs where it can be left."""

    def predict(self, rows: NDArray[np.float64]) -> Outputs:
        """For rows (n, features): a list of n JSON-ready values under each output's name. Raises ModelError."""


class ModelError(Exception):
    """A model did not give what it should."""


class RowsRefused(ModelError):
    """The model says of these rows that it can't take them: an unknown category, a value outside what it was fitted to."""
