"""A scikit-learn model as it was trained, for those that can't be compiled. Imported only where one
is served: it is large."""

import warnings
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from .columns import Columns, Rows
from .estimator_input import given_by
from .protocol import Kept, Model, Resources
from .runtime import ModelError, Outputs, RowsRefused, check_finite


class SklearnRuntime:
    """Skips scikit-learn's own search for NaN where no column is nullable: rows were checked by the
    caller. `draws`: may the same rows get other answers, at another time or beside other rows?"""

    bounded = True

    def __init__(
        self, estimator: Any, outputs: list[str], columns: Columns | None = None, *, draws: bool = False
    ) -> None:
        self.draws = draws
        self._estimator = estimator
        self._outputs = outputs
        self._given = None if columns is None else given_by(estimator, len(columns))
        self._is_finite = not any(column.nullable for column in columns or ())
        self._config_context = import_module("sklearn").config_context

    def predict(self, rows: Rows) -> Outputs:
        outputs: Outputs = {}
        given = rows if self._given is None else self._given(rows)
        with self._config_context(assume_finite=self._is_finite):
            for name in self._outputs:
                try:
                    answer = getattr(self._estimator, name)(given)
                except (
                    ValueError
                ) as error:  # what scikit-learn raises for rows, and for nothing else once a model is fitted
                    raise RowsRefused(next(iter(str(error).strip().splitlines()), "these rows")[:200]) from error
                outputs[name] = by_row(name, answer, len(rows))
        return outputs


def by_row(name: str, answer: Any, count: int) -> list[Any]:
    """What an estimator answers as `count` JSON-ready values, one a row. Raises ModelError.

    An array has its rows already. A model with several outputs gives a list of arrays instead, one
    an output with the probabilities of its classes: a row is then a list of lists, one an output.
    """
    if isinstance(answer, list):
        outputs = [by_row(name, output, count) for output in answer]
        return [list(row) for row in zip(*outputs, strict=True)]
    value = np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
    if value.ndim == 0 or len(value) != count:
        raise ModelError(f"{name} gave an array of shape {value.shape} for {count} rows")
    check_finite(name, value)
    if value.dtype.kind not in "biufUO":
        raise ModelError(f"{name} is of dtype {value.dtype}, which has no JSON form")
    values: list[Any] = value.tolist()
    return values


class SklearnModel(Model, frozen=True, kw_only=True, tag="sklearn"):
    label: ClassVar[str] = "scikit-learn"
    kept: ClassVar[Kept] = "always"
    stays: ClassVar[str | None] = "it could not be compiled, and needs scikit-learn"

    sha256: str
    by_row: bool = False
    """Does each row's answer follow from that row and the file alone?"""

    def load(self, resources: Resources) -> SklearnRuntime:
        """Raises Unreadable besides, for a file that would not be taken today."""
        from .skops_reading import read

        # Models trained on named columns warn about every array without names; ours are in that
        # order.
        warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
        body = resources.artifacts.read(self.sha256)
        estimator = read(body, resources.settings.SKOPS_TRUSTED)
        return SklearnRuntime(estimator, self.outputs, self.columns, draws=not self.by_row)
