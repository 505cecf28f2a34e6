"""A loaded model: rows in, outputs by name out. No snapshot, no file and no setting enters this
module."""

from typing import Any, Protocol

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


class RowsRefused(ModelError):
    """The model says of these rows that it can't take them: an unknown category, a value outside
    what it was fitted to.
    """
