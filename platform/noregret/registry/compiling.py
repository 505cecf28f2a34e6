"""scikit-learn to ONNX, kept only where it gives the same answers. Runs only in the inspecting
child process.

Input is doubles: what narrower numbers an estimator compares (trees round to floats) is for its
converter to say. Floats were tried where there is no converter for doubles, and rejected: a score
that ties in one width is decided in the other. What is compiled is held against the original on
rows where the model has been, each answer by itself: labels equal, probabilities within an absolute
bound, numbers within one relative to their own size.
"""

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
from sklearn.decomposition import KernelPCA
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import CategoricalNB
from sklearn.neighbors._base import NeighborsBase
from sklearn.preprocessing import Normalizer, OrdinalEncoder

from serving.runtimes import linear
from serving.runtimes.onnx_graph import OnnxRuntime
from serving.runtimes.runtime import Runtime

from . import step_conversion, tree_conversion
from .frameworks.protocol import Signature
from .linear_form import linear_form
from .original import Answers

TOLERANCE = 1e-6
"""Of a probability; of a number, relative to itself."""
_FLOOR = 1e-9  # of a number near zero, relative to the median size of all
ROWS_NEEDED = 200
_NO_GAPS = ("string", "boolean")
CONVERTING_SECONDS = 10.0
"""Of this process's time, for each try: some converters take minutes for what others do at once,
and the model has an original."""
_SINGLY = 32  # rows that are asked one by one too: the runtime has another way for those

tree_conversion.register()
step_conversion.register()


@dataclass(frozen=True, slots=True)
class Compiled:
    """The ONNX file, or why there is none."""

    body: bytes | None
    note: str


def compile_to_onnx(estimator: Any, signature: Signature, original: Answers) -> Compiled:
    """Compile and compare; never raises for a model that can't be compiled."""
    if signature.features is None:
        return Compiled(None, "the number of features is not known")
    if signature.has_several_outputs:
        return Compiled(None, "it has several outputs with classes of their own, which come one by one out of ONNX")
    if signature.classes is not None and any(isinstance(label, bool | float) for label in signature.classes):
        return Compiled(None, "labels are neither integers nor strings, and ONNX has no others")
    if len(original.rows) < ROWS_NEEDED:
        return Compiled(
            None, f"answers {len(original.rows)} of the rows made for it, too few to show that a compiled one equals it"
        )
    for part in _parts(estimator, set()):
        reason = never_equal(part)
        if reason is not None:
            return Compiled(None, reason)
    gaps = [column for column in signature.columns or () if column.nullable and column.type in _NO_GAPS]
    if gaps:
        return Compiled(
            None, f"column {gaps[0].name[:64]!r} may be null, and ONNX has no text or truth that is missing"
        )
    try:
        body = _convert(estimator, _inputs(signature))
    except Exception as error:  # converters raise whatever they like
        return Compiled(None, _told(error))
    try:
        runtime = OnnxRuntime(body, signature.outputs)
    except Exception as error:  # the library's own exceptions have no common, public base
        return Compiled(None, _told(error))
    problem = _difference(signature, runtime, original)
    if problem is not None:
        return Compiled(None, problem)
    with_sums = _with_linear_form(estimator, signature, body, original)
    compiled = "compiled" if with_sums is None else f"compiled to {linear.LABEL}"
    return Compiled(with_sums or body, f"{compiled}; equal to the original on {len(original.rows)} rows")


def _with_linear_form(estimator: Any, signature: Signature, body: bytes, original: Answers) -> bytes | None:
    """The graph with its linear form; None where it has none that answers the same."""
    form = linear_form(estimator)
    if form is None or _difference(signature, linear.LinearRuntime(form, signature.outputs), original) is not None:
        return None
    model = onnx.load_model_from_string(body)
    onnx.helper.set_model_props(model, {linear.METADATA: msgspec.json.encode(form).decode()})
    told: bytes = model.SerializeToString()
    return told


def _inputs(signature: Signature) -> list[tuple[str, Any]]:
    """One of all features, or one a column where some are strings. Whole numbers and truths go in
    as doubles, as an array of them and of other numbers does."""
    columns = signature.columns
    if columns is None or all(column.type != "string" for column in columns):
        return [("rows", DoubleTensorType([None, signature.features]))]
    return [
        (f"column{place}", StringTensorType([None, 1]) if column.type == "string" else DoubleTensorType([None, 1]))
        for place, column in enumerate(columns)
    ]


def never_equal(part: Any) -> str | None:
    """Why a part's compiled form is known to differ from it somewhere, whatever check rows show;
    None for all others."""
    if isinstance(part, OneVsRestClassifier):
        return "it decides by scores, and ONNX by probabilities, of which several are 1 far from the data"
    if isinstance(part, CountVectorizer | HashingVectorizer):
        return "it splits text by all letters there are, and ONNX by those of English"
    if isinstance(part, NeighborsBase):
        return "which of two neighbours equally far away counts is decided by rounding, which ONNX does otherwise"
    if isinstance(part, CategoricalNB) or getattr(part, "handle_unknown", None) == "error":
        return "it refuses categories that it was not fitted to, and ONNX answers them"
    if isinstance(part, OrdinalEncoder):
        return "it tells categories apart as doubles, and ONNX as floats"
    if isinstance(part, Normalizer):
        return "it leaves a row of zeros as it is, and ONNX divides by zero"
    if isinstance(part, KernelPCA):
        return "its kernel is summed in another order by ONNX, and far from its data that is all that is left"
    return None


def _parts(thing: Any, seen: set[int]) -> Iterator[Any]:
    """All that an estimator holds, itself among it."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, dict):
        inside: Any = thing.values()
    elif isinstance(thing, list | tuple) or (isinstance(thing, np.ndarray) and thing.dtype == object):
        inside = np.ravel(thing) if isinstance(thing, np.ndarray) else thing
    else:
        yield thing
        inside = vars(thing).values() if hasattr(thing, "__dict__") else ()
    for part in inside:
        yield from _parts(part, seen)


def _convert(estimator: Any, inputs: list[tuple[str, Any]]) -> bytes:
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    with warnings.catch_warnings(), _limited(CONVERTING_SECONDS):
        warnings.simplefilter("ignore")
        model = to_onnx(estimator, initial_types=inputs, options=options)
    tree_conversion.allow(model)
    if [one.name for one in model.graph.input] != [name for name, _ in inputs]:
        raise ValueError("a converted model that does not read every column")
    # They come out of a set: the same model would be two files.
    model.opset_import.sort(key=lambda one: one.domain)
    body: bytes = model.SerializeToString()
    return body


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside. Signals come to the main thread alone; in another one nothing is
    limited."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"not converted in {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


def _difference(signature: Signature, runtime: Runtime, original: Answers) -> str | None:
    """What the compiled model answers otherwise, or None."""
    try:
        compiled = runtime.predict(original.rows)
        step = max(1, len(original.rows) // _SINGLY)
        singly = [runtime.predict(original.rows[place : place + 1]) for place in range(0, len(original.rows), step)]
    except Exception as error:  # a model that does not run is a model that differs
        return _told(error)
    for name in signature.outputs:
        expected = original.outputs[name]
        some = np.concatenate([np.asarray(answer[name]) for answer in singly])
        for answers, asked in (
            (np.asarray(compiled[name]), expected),
            (some, expected[:: max(1, len(expected) // _SINGLY)]),
        ):
            problem = difference(name, answers, asked)
            if problem is not None:
                return problem
    return None


def difference(name: str, answers: NDArray[Any], expected: NDArray[Any]) -> str | None:
    """What differs between a compiled model's answers under `name` and the original's, or None."""
    if answers.shape != expected.shape:
        return f"{name} has shape {answers.shape} where {expected.shape} was expected"
    if expected.dtype.kind != "f":
        different = np.atleast_1d(answers != expected)
        return f"{name} differs on {int(different.sum())} of {len(expected)} rows" if different.any() else None
    allowed: Any = TOLERANCE
    if name == "predict":
        allowed = TOLERANCE * np.abs(expected) + _FLOOR * float(np.median(np.abs(expected)))
    off = np.abs(answers - expected)
    beyond = ~(off <= allowed)
    if beyond.any():
        return (
            f"{name} is off by up to {float(off[beyond].max()):.2g} on {int(beyond.sum())} of {expected.size} numbers"
        )
    return None


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:200]}"
