"""A loaded model: rows in, outputs by name out. No snapshot, no file and no setting enters this
module."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .columns import Rows

Outputs = dict[str, list[Any]]


class Runtime(Protocol):
    """A loaded model. Called from several threads at once."""

    bounded: bool
    """False for code that may hang or block whatever it took so far: each of its calls runs where
    it can be left."""

    def predict(self, rows: Rows) -> Outputs:
        """For n rows: a list of n JSON-ready values under each output's name. Raises ModelError.

        Rows are an (n, features) array of doubles, or a Table where the model's columns are not all
        numbers.
        """


class ModelError(Exception):
    """A model did not give what it should."""


LARGEST = 1e100
"""Rows with a number beyond it, either way, may be too large for arithmetic in double precision,
which holds 1e308: products, powers and sums of some go past that. Nothing that is counted or
measured comes near."""
LARGEST_SINGLE = 1e19
"""The same in single precision, which holds 3e38: the square of this, and every 64-bit integer."""


class NotFinite(ModelError):
    """An answer holds what is no finite number.

    `wrong` (n,) tells of which rows; rows with a number beyond `largest` are too large for the
    model.
    """

    def __init__(self, name: str, wrong: NDArray[np.bool_], largest: float = LARGEST) -> None:
        super().__init__(f"{name} is not finite")
        self.wrong = wrong
        self.largest = largest


def check_finite(name: str, answer: NDArray[Any], largest: float = LARGEST) -> None:
    """Raises NotFinite where an answer (n, ...) of numbers is not finite."""
    if answer.dtype.kind == "f" and not np.isfinite(answer).all():
        by_row = np.atleast_1d(answer)
        wrong: NDArray[np.bool_] = ~np.isfinite(by_row).reshape(len(by_row), -1).all(axis=1)
        raise NotFinite(name, wrong, largest)


class RowsRefused(ModelError):
    """The model says of these rows that it can't take them: an unknown category, a value outside
    what it was fitted to.
    """
