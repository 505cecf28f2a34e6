"""scikit-learn to ONNX, kept only where it gives the same answers. Runs only in the inspecting child process.

Doubles where the converter has them, for a tree's threshold rounded to a float sends a row the other way; else floats. Either is
held against the original on rows generated around what the model was fitted to and on the sample that came with it.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

from serving.runtimes.onnx import OnnxRuntime

from .signature import Signature

ROWS = 256
TOLERANCE = 1e-5
_SEED = 20_240_501

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The ONNX file, or why there is none."""

    body: bytes | None
    note: str


def compile_to_onnx(estimator: Any, signature: Signature, sample: Rows | None) -> Compiled:
    """Compile and compare; never raises for a model that can't be compiled."""
    if signature.features is None:
        return Compiled(None, "the number of features is not known")
    if signature.has_several_outputs:
        return Compiled(None, "it has several outputs with classes of their own, which come one by one out of ONNX")
    if signature.classes is not None and any(isinstance(label, bool | float) for label in signature.classes):
        return Compiled(None, "labels are neither integers nor strings, and ONNX has no others")
    rows = generated_rows(estimator, signature.features)
    if sample is not None:
        rows = np.concatenate((rows, sample))
    notes: list[str] = []
    for name, tensor in (("double", DoubleTensorType), ("float", FloatTensorType)):
        try:
            body = _convert(estimator, tensor([None, signature.features]))
        except Exception as error:  # converters raise whatever they like
            notes.append(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
            continue
        problem = _difference(estimator, signature, body, rows)
        if problem is None:
            return Compiled(body, f"compiled with {name} input; equal to the original on {len(rows)} rows")
        notes.append(f"{name}: {problem}")
    return Compiled(None, "; ".join(notes))


def _convert(estimator: Any, tensor: Any) -> bytes:
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = to_onnx(estimator, initial_types=[("rows", tensor)], options=options)
    body: bytes = model.SerializeToString()
    return body


def _difference(estimator: Any, signature: Signature, body: bytes, rows: Rows) -> str | None:
    """What the compiled model answers otherwise, or None."""
    try:
        compiled = OnnxRuntime(body, signature.outputs).predict(rows)
    except Exception as error:  # a model that does not run is a model that differs
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    for name in signature.outputs:
        original = np.asarray(getattr(estimator, name)(rows))
        answer = np.asarray(compiled[name])
        if answer.shape != original.shape:
            return f"{name} has shape {answer.shape} where {original.shape} was expected"
        if original.dtype.kind == "f":
            off = float(np.abs(answer - original).max(initial=0.0) / max(1.0, float(np.abs(original).max(initial=0.0))))
            if not off <= TOLERANCE:
                return f"{name} is off by {off:.2g}"
        elif not np.array_equal(answer, original):
            return f"{name} differs on {int((answer != original).sum())} of {len(rows)} rows"
    return None


def generated_rows(estimator: Any, features: int) -> Rows:
    """Seeded rows over the range that the model shows to have been fitted to, and around zero."""
    generator = np.random.default_rng(_SEED)
    low, high = np.full(features, -1.0), np.full(features, 1.0)
    for part in _parts(estimator):
        for seen_low, seen_high in _ranges(part, features):
            low, high = np.fmin(low, seen_low), np.fmax(high, seen_high)
    inside = generator.uniform(low, high, (ROWS, features))
    # Data are often whole numbers, which sit just where trees put thresholds.
    return np.concatenate((inside, np.round(inside), generator.normal(size=(ROWS // 2, features))))


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator; of a pipeline its first step, which sees the rows as they come; of an ensemble its members."""
    steps = getattr(estimator, "steps", None)
    if steps:
        yield from _parts(steps[0][1])
        return
    yield estimator
    yield from list(np.ravel(np.asarray(getattr(estimator, "estimators_", []), dtype=object)))[:20]


def _ranges(part: Any, features: int) -> Iterator[tuple[Rows, Rows]]:
    mean, scale = getattr(part, "mean_", None), getattr(part, "scale_", None)
    if mean is not None and scale is not None and np.shape(mean) == np.shape(scale) == (features,):
        yield mean - 3.0 * scale, mean + 3.0 * scale
    low: Any = getattr(part, "data_min_", None)
    if np.shape(low) == (features,):
        yield low, part.data_max_
    theta: Any = getattr(part, "theta_", None)
    if np.ndim(theta) == 2 and hasattr(part, "var_"):  # naive Bayes
        spread = 3.0 * np.sqrt(part.var_)
        yield (theta - spread).min(axis=0), (theta + spread).max(axis=0)
    for name in ("support_vectors_", "_fit_X"):
        points = getattr(part, name, None)
        if isinstance(points, np.ndarray) and points.ndim == 2 and points.shape[1] == features:
            yield points.min(axis=0), points.max(axis=0)
    tree = getattr(part, "tree_", None)
    if tree is not None:
        least, greatest = np.full(features, np.nan), np.full(features, np.nan)
        split = tree.feature >= 0
        np.fmin.at(least, tree.feature[split], tree.threshold[split])
        np.fmax.at(greatest, tree.feature[split], tree.threshold[split])
        yield least - 1.0, greatest + 1.0
