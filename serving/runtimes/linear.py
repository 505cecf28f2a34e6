"""A linear model, evaluated here: a weighted sum of features for each output, and what makes
answers of the sums.

ONNX Runtime takes ten times as long for one row of such a model, most of it around the sums; and it
gives the interpreter up, for which a request then waits twice. What is told here is told beside the
ONNX graph, in its metadata, by the program that wrote the graph.
"""

from collections.abc import Callable, Mapping
from math import exp, inf, isfinite, isnan
from operator import mul, sub
from typing import Any, Literal

import msgspec
import numpy as np

from .columns import Rows, as_numbers
from .protocol import NotFinite, Outputs

METADATA = "noregret.linear"
"""The key of a graph's metadata under which its linear form stands."""
MAX_WEIGHTS = 20_000
_SHORT = 256
"""Weights up to which a row is summed faster here than by numpy."""

Link = Literal["identity", "two-classes", "many-classes"]
"""What makes answers of sums: the sum itself; the second class where the only sum is positive, and
its probability by the logistic function; the class of the largest sum, and probabilities by
softmax."""


class LinearForm(msgspec.Struct, frozen=True):
    """sum[k] = intercepts[k] + sum over j of weights[k][j] * (row[j] - centers[j]).

    Centers stay apart from intercepts: a feature far from zero would lose its digits in one sum.
    """

    centers: list[float]
    weights: list[list[float]]
    intercepts: list[float]
    link: Link
    classes: list[int | str] | None = None


def read(metadata: Mapping[str, str]) -> LinearForm | None:
    """The form that a graph's metadata tells, if it tells one."""
    text = metadata.get(METADATA)
    return None if text is None else msgspec.json.decode(text, type=LinearForm)


class LinearRuntime:
    """Thread-safe, and answers one row without giving the interpreter up."""

    bounded = True

    def __init__(self, form: LinearForm, outputs: list[str]) -> None:
        self.form = form
        self._answer = _answer(form, has_probabilities="predict_proba" in outputs)
        self._centers = form.centers
        self._sums = list(zip(form.intercepts, form.weights, strict=True))
        self._is_short = len(form.weights) * len(form.centers) <= _SHORT
        self._center_row = np.array(form.centers)
        self._matrix = np.ascontiguousarray(np.array(form.weights).T)
        self._intercept_row = np.array(form.intercepts)

    def predict(self, rows: Rows) -> Outputs:
        rows = as_numbers(rows)
        if self._is_short and len(rows) == 1:
            features = list(map(sub, rows[0].tolist(), self._centers))
            return self._answer([[intercept + sum(map(mul, weights, features)) for intercept, weights in self._sums]])
        with np.errstate(over="ignore", invalid="ignore"):
            sums = (rows - self._center_row) @ self._matrix + self._intercept_row
        return self._answer(sums.tolist())


def _answer(form: LinearForm, *, has_probabilities: bool) -> Callable[[list[list[float]]], Outputs]:
    """What makes the answers of (rows, sums). Raises NotFinite where a sum is not a number."""
    classes: list[Any] = form.classes or []

    def identity(by_row: list[list[float]]) -> Outputs:
        if not all(isfinite(value) for (value,) in by_row):
            raise _not_finite([not isfinite(value) for (value,) in by_row])
        return {"predict": [value for (value,) in by_row]}

    def two_classes(by_row: list[list[float]]) -> Outputs:
        if any(isnan(score) for (score,) in by_row):
            raise _not_finite([isnan(score) for (score,) in by_row])
        outputs: Outputs = {"predict": [classes[score > 0.0] for (score,) in by_row]}
        if has_probabilities:
            outputs["predict_proba"] = [_logistic(score) for (score,) in by_row]
        return outputs

    def many_classes(by_row: list[list[float]]) -> Outputs:
        if not all(value < inf for sums in by_row for value in sums) or -inf in map(max, by_row):
            raise _not_finite([not all(value < inf for value in sums) or max(sums) == -inf for sums in by_row])
        outputs: Outputs = {"predict": [classes[sums.index(max(sums))] for sums in by_row]}
        if has_probabilities:
            outputs["predict_proba"] = [_softmax(sums) for sums in by_row]
        return outputs

    return {"identity": identity, "two-classes": two_classes, "many-classes": many_classes}[form.link]


def _not_finite(wrong: list[bool]) -> NotFinite:
    return NotFinite("predict", np.array(wrong))


def _logistic(score: float) -> list[float]:
    tail = exp(-abs(score))
    small, large = tail / (1.0 + tail), 1.0 / (1.0 + tail)
    return [small, large] if score > 0.0 else [large, small]


def _softmax(sums: list[float]) -> list[float]:
    top = max(sums)
    powers = [exp(value - top) for value in sums]
    total = sum(powers)
    return [power / total for power in powers]
