"""Runs an arm's model on the device: a linear one from its parameters, with the standard library
alone; any other from its ONNX file, where onnxruntime is installed.
"""

import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from .bundle import Bundle, BundleArm, BundleColumn, LinearForm

Rows = Sequence[Sequence[Any]]
Outputs = dict[str, list[Any]]


class ModelFailed(Exception):
    """The model could not answer these rows."""


class Model(Protocol):
    """Answers rows, their values in the order of the model's features or columns."""

    def predict(self, rows: Rows) -> Outputs:
        """A value a row under each output's name. Raises ModelFailed."""


def can_run(arm: BundleArm) -> bool:
    """May this device run the arm's model?"""
    if arm.parameters is not None:
        return True
    return arm.artifact is not None and arm.artifact.format == "onnx" and has_onnxruntime()


def needs_file(arm: BundleArm) -> bool:
    """Is a file to be fetched for it? Not where its parameters are all of it."""
    return arm.parameters is None and can_run(arm)


def has_onnxruntime() -> bool:
    return find_spec("onnxruntime") is not None and find_spec("numpy") is not None


def load(arm: BundleArm, columns: Sequence[BundleColumn] | None, file: Callable[[], bytes]) -> Model:
    """The arm's model, of its parameters or its `file`. Raises ModelFailed."""
    if arm.parameters is not None:
        return LinearModel(arm.parameters, arm.outputs)
    try:
        return OnnxModel(file(), arm.outputs, columns)
    except Exception as error:  # the library's own exceptions have no common, public base
        raise ModelFailed(f"{arm.model} can't be loaded: {error}") from error


def values_of(bundle: Bundle, rows: Sequence[Any]) -> list[list[Any]]:
    """Rows as lists in the models' order, of lists or of objects by name. Raises ValueError."""
    names = [column.name for column in bundle.columns] if bundle.columns else bundle.feature_names
    width = len(names) if names else bundle.features
    values: list[list[Any]] = []
    for i, row in enumerate(rows):
        if isinstance(row, dict):
            if names is None or set(row) != set(names):
                raise ValueError(f"row {i}: {', '.join(names) if names else 'a list of numbers'} was expected")
            row = [row[name] for name in names]
        if width is not None and len(row) != width:
            raise ValueError(f"row {i}: {width} values were expected, not {len(row)}")
        values.append(list(row))
    if not values:
        raise ValueError("at least one row was expected")
    return values


class LinearModel:
    """A weighted sum of features for each output, and what makes answers of the sums."""

    def __init__(self, form: LinearForm, outputs: Sequence[str]) -> None:
        self._form = form
        self._has_probabilities = "predict_proba" in outputs

    def predict(self, rows: Rows) -> Outputs:
        try:
            sums = [self._sums([float(value) for value in row]) for row in rows]
        except (TypeError, ValueError) as error:
            raise ModelFailed(f"numbers were expected: {error}") from error
        form = self._form
        if any(math.isnan(one) for each in sums for one in each):
            raise ModelFailed("predict is not finite")
        if form.link == "identity":
            if not all(math.isfinite(one) for (one,) in sums):
                raise ModelFailed("predict is not finite")
            return {"predict": [one for (one,) in sums]}
        classes = form.classes or []
        if form.link == "two-classes":
            outputs: Outputs = {"predict": [classes[one > 0.0] for (one,) in sums]}
            if self._has_probabilities:
                outputs["predict_proba"] = [_logistic(one) for (one,) in sums]
            return outputs
        if form.link != "many-classes":
            raise ModelFailed(f"the link {form.link} is not known to this version of the client")
        if not all(one < math.inf for each in sums for one in each):
            raise ModelFailed("predict is not finite")
        outputs = {"predict": [classes[each.index(max(each))] for each in sums]}
        if self._has_probabilities:
            outputs["predict_proba"] = [_softmax(each) for each in sums]
        return outputs

    def _sums(self, row: Sequence[float]) -> list[float]:
        form = self._form
        features = [value - center for value, center in zip(row, form.centers, strict=True)]
        return [
            intercept + sum(weight * feature for weight, feature in zip(weights, features, strict=True))
            for intercept, weights in zip(form.intercepts, form.weights, strict=True)
        ]


def _logistic(score: float) -> list[float]:
    tail = math.exp(-abs(score))
    small, large = tail / (1.0 + tail), 1.0 / (1.0 + tail)
    return [small, large] if score > 0.0 else [large, small]


def _softmax(sums: Sequence[float]) -> list[float]:
    top = max(sums)
    powers = [math.exp(one - top) for one in sums]
    total = sum(powers)
    return [power / total for power in powers]


class OnnxModel:
    """A graph that takes all features in one input, or an input a column."""

    def __init__(self, body: bytes, outputs: Sequence[str], columns: Sequence[BundleColumn] | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])
        self._inputs = self._session.get_inputs()
        self._names = [output.name for output in self._session.get_outputs()][: len(outputs)]
        self._outputs = list(outputs)
        self._columns = columns
        shape = self._inputs[0].shape
        self._takes_all = len(self._inputs) == 1 and len(shape) > 1 and shape[1] != 1

    def predict(self, rows: Rows) -> Outputs:
        try:
            values = self._session.run(self._names, self._fed(rows))
        except Exception as error:  # the library's own exceptions have no common, public base
            raise ModelFailed(str(error)) from error
        outputs: Outputs = {}
        for name, value in zip(self._outputs, values, strict=True):
            if name == "predict" and value.ndim == 2 and value.shape[1] == 1:
                value = value[:, 0]
            outputs[name] = value.tolist()
        return outputs

    def _fed(self, rows: Rows) -> dict[str, Any]:
        import numpy as np

        if self._takes_all:
            nan = float("nan")
            dense = [[nan if value is None else value for value in row] for row in rows]
            return {self._inputs[0].name: np.array(dense, dtype=_dtype(self._inputs[0].type))}
        fed = {}
        for input_, column in zip(self._inputs, zip(*rows, strict=True), strict=True):
            dtype = _dtype(input_.type)
            gap = float("nan") if np.dtype(dtype).kind == "f" else None
            array = np.array([gap if value is None else value for value in column], dtype=dtype)
            fed[input_.name] = array if len(input_.shape) == 1 else array[:, None]
        return fed


def _dtype(kind: str) -> Any:
    import numpy as np

    return {
        "tensor(double)": np.float64,
        "tensor(float)": np.float32,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
        "tensor(bool)": np.bool_,
    }.get(kind, object)
