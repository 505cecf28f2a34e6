"""What every runtime must do: the suite goes through all that are registered, and one without a
case here fails it.
"""

import gc
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skops.io
from noregret.registry import examining, signature
from noregret.registry.frameworks import frameworks
from noregret.registry.frameworks.sklearn import SklearnFramework
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serving import snapshot
from serving.artifacts import ArtifactMissing, ArtifactStore
from serving.batching import Batching
from serving.deadline import BoundedCaller, DeadlineExceeded
from serving.live import load_model
from serving.prediction_cache import Answered, PredictionCache, PredictionCaches
from serving.remote.tensors import Tensor
from serving.runtimes import Model, ModelError, Outputs, Resources, Runtime, kinds, onnx_graph
from serving.runtimes.http import HttpModel
from serving.runtimes.linear import LinearRuntime
from serving.runtimes.onnx import OnnxModel
from serving.runtimes.python import PythonModel
from serving.runtimes.rows import RowsInvalid, to_array, to_rows
from serving.runtimes.sklearn import SklearnModel
from serving.runtimes.static import StaticModel
from tests import callables
from tests.registry import tables
from tests.serving.remote_server import RemoteServer

Rows = NDArray[np.float64]
IRIS, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
ROWS = np.concatenate((IRIS[::5], IRIS[:1] + 1e9))[-30:]


@dataclass(frozen=True, slots=True)
class Case:
    """A model of a runtime; `original` is what it answers; `garbage` one whose answer is not to be
    served.
    """

    model: Model
    original: Callable[[Rows], Outputs]
    garbage: Model | None
    rows: Any = field(default_factory=lambda: ROWS)  # thirty that it takes


def of_estimator(estimator: Any) -> Callable[[Rows], Outputs]:
    return lambda rows: {
        "predict": estimator.predict(rows).tolist(),
        "predict_proba": estimator.predict_proba(rows).tolist(),
    }


@cache
def compiled(is_linear: bool) -> tuple[Any, signature.Signature, bytes]:
    forest = RandomForestClassifier(10, random_state=1)
    last = LogisticRegression(max_iter=1000) if is_linear else forest
    estimator = make_pipeline(StandardScaler(), last).fit(IRIS, NAMES)
    known, answer = examining.examine(estimator, signature.read(estimator), None)
    assert answer.body is not None, answer.note
    return estimator, known, answer.body


def onnx_case(store: ArtifactStore, is_linear: bool = False) -> Case:
    estimator, known, body = compiled(is_linear)
    assert isinstance(onnx_graph.load(body, known.outputs), LinearRuntime) is is_linear
    rows = helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, 4])
    answers = helper.make_tensor_value_info("answers", TensorProto.DOUBLE, [None, 4])
    # The logarithm of a negative number is none.
    nodes = [helper.make_node("Neg", ["rows"], ["negative"]), helper.make_node("Log", ["negative"], ["answers"])]
    graph = helper.make_graph(nodes, "garbage", [rows], [answers])
    garbage = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    return Case(
        OnnxModel(
            model="m@1", framework="sklearn", sha256=store.put(body), features=4, outputs=known.outputs,
            classes=known.classes, example_rows=known.example_rows,
        ),
        of_estimator(estimator),
        OnnxModel(model="m@2", framework="sklearn", sha256=store.put(garbage), features=4, outputs=["predict"]),
    )  # fmt: skip


def sklearn_case(store: ArtifactStore) -> Case:
    estimator = KNeighborsClassifier(5).fit(IRIS, NAMES)
    hopeless = LogisticRegression(max_iter=1000).fit(IRIS, SPECIES)
    hopeless.coef_ = hopeless.coef_ * np.nan
    return Case(
        SklearnModel(
            model="m@1", framework="sklearn", sha256=store.put(skops.io.dumps(estimator)), features=4,
            outputs=["predict", "predict_proba"], example_rows=IRIS[:2].tolist(),
        ),
        of_estimator(estimator),
        SklearnModel(
            model="m@2", framework="sklearn", sha256=store.put(skops.io.dumps(hopeless)), features=4,
            outputs=["predict_proba"],
        ),
    )  # fmt: skip


@cache
def remote_server(garbage: bool) -> RemoteServer:
    """Two of a session: what the runtime drops is its own, and never theirs."""
    estimator, _, _ = compiled(is_linear=False)
    answer = of_estimator(estimator)
    return RemoteServer(lambda rows: {"predict": [float("nan")] * len(rows)} if garbage else answer(rows))


def http_case(store: ArtifactStore) -> Case:
    estimator, _, _ = compiled(is_linear=False)

    def model(version: int, server: RemoteServer) -> HttpModel:
        return HttpModel(
            model=f"m@{version}", framework="http", url=server.open_inference, protocol="open-inference",
            inputs=[Tensor("rows", "FP64", [-1, 4])], features=4, outputs=["predict", "predict_proba"],
        )  # fmt: skip

    return Case(model(1, remote_server(garbage=False)), of_estimator(estimator), model(2, remote_server(garbage=True)))


def python_case(store: ArtifactStore) -> Case:
    return Case(
        PythonModel(model="m@1", framework="python", callable="tests.callables.zeros", outputs=["predict"]),
        lambda rows: {"predict": callables.zeros(rows).tolist()},
        PythonModel(model="m@2", framework="python", callable="tests.callables.short", outputs=["predict"]),
    )


def static_case(store: ArtifactStore) -> Case:
    payload = {"text": "é", "rate": 0.002, "most": 1e9}
    return Case(
        StaticModel(model="m@1", framework="static", payload=payload, outputs=["predict"]),
        lambda rows: {"predict": [payload] * len(rows)},
        None,  # whatever it holds is what was asked for
    )


def table_case(store: ArtifactStore, name: str) -> Case:
    """A model of a table, as its upload has it served."""
    fit, table_of, given_of = tables.MODELS[name]
    estimator = fit()
    body = skops.io.dumps(estimator)
    found = SklearnFramework().inspect(body, {"trusted": [], "sample": None})
    known = found.signature
    assert known.columns is not None
    kind = SklearnModel if found.compiled is None else OnnxModel
    model = kind(
        model="m@1", framework="sklearn", sha256=store.put(found.compiled or body), features=known.features,
        feature_names=known.feature_names, outputs=known.outputs, classes=known.classes, columns=known.columns,
        examples=known.example_rows,
    )  # fmt: skip
    table = table_of()[:30]
    originals = {str(row): given_of(table[place : place + 1]) for place, row in enumerate(tables.rows(table))}

    def original(rows: Any) -> Outputs:
        parts = [of_estimator(estimator)(originals[str(row)]) for row in rows.tolist()]
        return {name: [part[name][0] for part in parts] for name in parts[0]}

    return Case(model, original, None, to_rows(tables.rows(table), model))


CASES: dict[str, Callable[[ArtifactStore], Case]] = {
    "http": http_case,
    "linear": partial(onnx_case, is_linear=True),
    "onnx": onnx_case,
    "onnx of columns": partial(table_case, name="one-hot"),
    "python": python_case,
    "sklearn": sklearn_case,
    "sklearn of gaps and categories": partial(table_case, name="boosted"),
    "sklearn of text": partial(table_case, name="text"),
    "static": static_case,
}
"""By the runtime's name, and what the model is of."""


def test_runtimes__all_that_are_registered__have_a_case() -> None:
    assert {name.partition(" ")[0] for name in CASES} == {*kinds(), "linear"}  # which is a compiled one


@pytest.fixture
def resources(tmp_path: Path, settings: Any) -> Resources:
    return Resources(ArtifactStore(tmp_path), settings)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest, resources: Resources) -> Case:
    return CASES[request.param](resources.artifacts)


@pytest.fixture
def runtime(case: Case, resources: Resources) -> Iterator[Runtime]:
    with warnings.catch_warnings():
        yield case.model.load(resources)


def assert_equal(answer: Outputs, expected: Outputs) -> None:
    """Labels and payloads value for value, probabilities to a millionth."""
    assert answer.keys() == expected.keys()
    assert answer["predict"] == expected["predict"]
    for name in answer.keys() - {"predict"}:
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-6)


@pytest.mark.parametrize("count", [1, 30])
def test_runtime__answers_as_the_original(case: Case, runtime: Runtime, count: int) -> None:
    answer = runtime.predict(case.rows[:count])
    assert_equal(answer, case.original(case.rows[:count]))
    msgspec.json.encode(answer)  # JSON-ready


def test_runtime__answer_that_was_kept__is_the_same_to_the_letter(case: Case, runtime: Runtime) -> None:
    kept = PredictionCache(PredictionCaches(2**20), entries=10, seconds=None)

    def ask() -> Answered:
        return kept.answer(case.model, case.rows, lambda: runtime.predict(case.rows), 0.0, patience=None)

    first, second = ask(), ask()
    assert (first.is_kept, second.is_kept) == (False, True)
    assert msgspec.json.encode(first.outputs) == msgspec.json.encode(second.outputs)


def test_runtime__requests_computed_together__answer_as_each_by_itself(case: Case, runtime: Runtime) -> None:
    if case.model.kept != "always":
        pytest.skip("its answers need not follow from a row alone")
    gate, calls, batching = threading.Event(), [], Batching(most_rows=100, wait_seconds=0.0)

    def call(rows: Any) -> Outputs:
        calls.append(len(rows))
        assert gate.wait(30.0)
        return runtime.predict(rows)

    def ask(start: int) -> Outputs:
        return batching.predict(case.model, case.rows[start : start + 3], call, time.perf_counter() + 60.0)

    starts = range(0, 18, 3)
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(ask, start) for start in starts]
        time.sleep(0.2)  # else there are more calls, of fewer rows
        gate.set()
    for start, answer in zip(starts, answers, strict=True):
        assert_equal(answer.result(), case.original(case.rows[start : start + 3]))
    assert sum(calls) == 18


def test_runtime__row_by_row__answers_as_all_at_once(case: Case, runtime: Runtime) -> None:
    together = runtime.predict(case.rows)
    single = [runtime.predict(case.rows[place : place + 1]) for place in range(len(case.rows))]
    assert_equal({name: [answer[name][0] for answer in single] for name in together}, together)


def test_runtime__row_of_another_width__is_told_by_its_place(case: Case) -> None:
    width = case.model.features
    if width is None:
        assert to_array([[1.0], [2.0]], None, None).shape == (2, 1)  # any, as long as all have it
        width = 1
    sound = [1.0] * width if case.model.columns is None else case.rows[:1].tolist()[0]
    with pytest.raises(RowsInvalid) as refused:
        to_rows(
            [sound, [*sound, 1.0]],
            case.model if case.model.features is not None else msgspec.structs.replace(case.model, features=1),
        )
    assert [error["field"] for error in refused.value.errors] == ["inputs[1]"]


def test_runtime__call_left_at_its_deadline__harms_no_later_one(case: Case, runtime: Runtime) -> None:
    rows = case.rows
    gate, caller = threading.Event(), BoundedCaller("m@1")

    def late() -> Outputs:
        gate.wait(10)
        return runtime.predict(rows)

    with pytest.raises(DeadlineExceeded):
        caller.call(late, 0.05)
    assert_equal(caller.call(lambda: runtime.predict(rows), 10.0), case.original(rows))
    gate.set()


def test_runtime__four_threads_at_once__answer_alike(case: Case, runtime: Runtime) -> None:
    rows = case.rows
    expected = [case.original(rows[i : i + 3]) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: runtime.predict(rows[i % 4 : i % 4 + 3]), range(80)))
    for i, answer in enumerate(answers):
        assert_equal(answer, expected[i % 4])


def test_runtime__dropped__is_gone_with_its_files(case: Case, resources: Resources) -> None:
    def loaded() -> weakref.ref[Runtime]:
        runtime = case.model.load(resources)
        runtime.predict(case.rows)
        return weakref.ref(runtime)

    first = loaded()
    opened = {path.resolve() for path in Path("/proc/self/fd").iterdir()}
    left = [first, *(loaded() for _ in range(5))]
    gc.collect()
    assert [reference() for reference in left] == [None] * 6
    sha256 = case.model.sha256
    if sha256 is not None:
        file = resources.artifacts.path(sha256)
        assert file not in {path.resolve() for path in Path("/proc/self/fd").iterdir()} | opened
        # What was loaded needs its file no more.
        runtime = case.model.load(resources)
        file.unlink()
        assert_equal(runtime.predict(case.rows), case.original(case.rows))


def test_runtime__file_missing_or_damaged__raises(case: Case, resources: Resources) -> None:
    sha256 = case.model.sha256
    if sha256 is None:
        pytest.skip("it has no file")
    damaged = msgspec.structs.replace(case.model, sha256=resources.artifacts.put(b"no model"))
    with pytest.raises(Exception, match=r"\w"):
        damaged.load(resources)
    resources.artifacts.path(sha256).unlink()
    with pytest.raises(ArtifactMissing):
        case.model.load(resources)


def test_runtime__garbage__is_raised_and_not_answered(case: Case, resources: Resources) -> None:
    if case.garbage is None:
        pytest.skip("nothing that it answers is garbage")
    runtime = case.garbage.load(resources)
    with np.errstate(all="ignore"), pytest.raises(ModelError):
        runtime.predict(np.abs(ROWS))


def test_runtime__example_rows__are_answered_when_it_is_loaded__or_told(case: Case, resources: Resources) -> None:
    def live(model: Model) -> Any:
        return load_model(lambda wanted: wanted.load(resources), model)

    assert live(case.model).problem is None
    garbage = case.garbage
    if garbage is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = live(msgspec.structs.replace(garbage, example_rows=ROWS[:1].tolist()))
        assert told.runtime is not None
        # One that may hang is not called before a request is there to leave it.
        assert (told.problem is not None) is told.runtime.bounded


# The snapshot between versions of the program.


class EarlierModel(msgspec.Struct, frozen=True):
    """A model in a snapshot as every version wrote and read it before models had kinds."""

    model: str
    framework: str
    runtime: str
    sha256: str | None = None
    callable: str | None = None
    payload: Any = None
    features: int | None = None
    feature_names: list[str] | None = None
    outputs: list[str] = []
    classes: list[Any] | None = None
    example_rows: list[list[float]] | None = None
    call_seconds: float | None = None
    row_seconds: float | None = None


def endpoint(model: Model) -> snapshot.Endpoint:
    return snapshot.Endpoint(id=1, name="e", version=3, published_at=1.5e9, champion=model, deadline_ms=300)


def test_snapshot__of_each_runtime__is_read_by_this_and_by_an_earlier_version(case: Case) -> None:
    body = snapshot.encode(endpoint(case.model))
    assert snapshot.decode_endpoint(body) == endpoint(case.model)
    plain = msgspec.msgpack.decode(body)
    earlier = msgspec.convert(plain["champion"], EarlierModel)
    for name in EarlierModel.__struct_fields__:
        assert getattr(earlier, name) == getattr(case.model, name, None), name
    if case.model.runtime == "http":
        return  # a kind that such a version never wrote
    # And the other way round: what such a version wrote is the same model here.
    written = msgspec.msgpack.encode(plain | {"champion": earlier})
    of_numbers = msgspec.structs.replace(case.model, columns=None, examples=None)  # it knew no others
    assert snapshot.decode_endpoint(written) == endpoint(of_numbers)


def test_snapshot__model_of_a_newer_version__is_one_that_does_not_load(resources: Resources) -> None:
    newer = {"model": "m@9", "framework": "later", "runtime": "later", "features": 4, "weights": [1, 2]}
    plain = msgspec.msgpack.decode(snapshot.encode(endpoint(StaticModel(model="m@1", framework="static"))))
    document = snapshot.decode_endpoint(msgspec.msgpack.encode(plain | {"champion": newer}))
    assert (document.champion.model, document.champion.features) == ("m@9", 4)
    with pytest.raises(ModelError, match="runtime is 'later': one of http, onnx, python"):
        document.champion.load(resources)
    nameless = plain | {"champion": {"runtime": "static"}}
    with pytest.raises(snapshot.SnapshotUnreadable, match="model"):
        snapshot.decode_endpoint(msgspec.msgpack.encode(nameless))


def test_frameworks__every_one__names_itself_and_says_what_it_takes() -> None:
    for name, framework in frameworks().items():
        assert framework.name == name
        assert framework.label
        assert {"name", "version"} < set(framework.definition.__struct_fields__)
    for name, kind in kinds().items():
        assert kind.label, name


def test_model__that_many_endpoints_name__is_held_once_until_it_is_described_otherwise() -> None:
    def read(name: str, payload: Any) -> Model:
        model = StaticModel(model="shared@1", framework="static", payload=payload)
        return snapshot.decode_endpoint(snapshot.encode(snapshot.Endpoint(1, name, 1, 0.0, model, 300))).champion

    first = read("a", [1])
    assert read("b", [1]) is first
    others = [read(name, payload) for name, payload in (("c", [True]), ("d", [1.0]), ("e", [2]))]
    assert repr([model.payload for model in (first, *others)]) == "[[1], [True], [1.0], [2]]"
