"""Rows whose numbers overflow a model's arithmetic are the caller's fault, and count against no
arm; a model that answers no number to ordinary rows fails as ever."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from noregret.steering.round import learn
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from serving.models import Decision
from serving.process import process
from serving.runtimes import Column, ModelError, Runtime, Table
from serving.runtimes.large_numbers import errors_of_caller
from serving.runtimes.linear import LinearForm, LinearRuntime
from serving.runtimes.onnx import OnnxRuntime
from serving.runtimes.protocol import NotFinite, RowsRefused
from serving.runtimes.python import PythonRuntime
from serving.runtimes.sklearn import SklearnRuntime
from tests import callables
from tests.conftest import Api, endpoint_of, python_model, start_experiment

FITTED = LinearRegression().fit([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, 10.0, 10.0])


def graph(kind: int, weight: float) -> bytes:
    """weight * (x0 + x1), in the precision of `kind`."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, kind, [None, width]) for name, width in (("x", 2), ("y", 1)))
    weights = helper.make_tensor("w", kind, [2, 1], [weight, weight])
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weights]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    return bytes(made.SerializeToString())


def linear(weight: float) -> Runtime:
    return LinearRuntime(LinearForm([0.0, 0.0], [[weight, weight]], [0.0], "identity"), ["predict"])


def onnx(kind: int) -> Callable[[float], Runtime]:
    return lambda weight: OnnxRuntime(graph(kind, weight), ["predict"])


def sklearn(weight: float) -> Runtime:
    if np.isfinite(weight):
        return SklearnRuntime(FITTED, ["predict"])
    broken = LinearRegression().fit([[0.0, 0.0], [1.0, 0.0]], [0.0, 1.0])
    broken.coef_ = np.full(2, np.nan)
    return SklearnRuntime(broken, ["predict"])


def python(weight: float) -> Runtime:
    return PythonRuntime(callables.tenfold if np.isfinite(weight) else callables.not_finite)


RUNTIMES = {
    "linear": (linear, 1e308),
    "onnx, double": (onnx(TensorProto.DOUBLE), 1e308),
    "onnx, single": (onnx(TensorProto.FLOAT), 1e38),
    "sklearn": (sklearn, 1e308),
    "python": (python, 1e308),
}


def blamed(runtime: Runtime, rows: list[list[float]]) -> list[str]:
    """The rows that the caller is told of."""
    given = np.array(rows)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ModelError, match="not finite") as raised:
        runtime.predict(given)
    assert isinstance(raised.value, NotFinite)
    return [error["field"] for error in errors_of_caller(given, raised.value)]


@pytest.mark.parametrize("name", RUNTIMES)
def test_rows__too_large_for_a_model__are_told_apart_from_a_model_without_answers(name: str) -> None:
    make, huge = RUNTIMES[name]
    working, broken = make(10.0), make(float("nan"))
    assert blamed(working, [[1.0, 2.0], [huge, huge], [1e9, 0.5], [0.0, -huge]]) == ["inputs[1]", "inputs[3]"]
    assert blamed(working, [[huge, 0.0]]) == ["inputs[0]"]
    assert blamed(broken, [[1.0, 2.0]]) == []
    assert blamed(broken, [[1.0, 2.0], [huge, huge]]) == []  # the ordinary row has no answer either
    assert working.predict(np.array([[1e18, 0.0]]))["predict"] == [pytest.approx(1e19)]


def test_rows__that_are_refused__are_the_callers_where_they_are_too_large() -> None:
    """scikit-learn's trees take single precision."""
    columns = (
        Column(name="size", type="number", nullable=True),
        Column(name="id", type="integer"),
        Column(name="word", type="string"),
    )
    arrays = [np.array([1.0, 1e39, np.nan]), np.array([2**62, 1, 2]), np.array(["a", "b", "c"], dtype=object)]
    refused = RowsRefused("Input X contains infinity or a value too large for dtype('float32')")
    assert [error["field"] for error in errors_of_caller(Table(columns, arrays), refused)] == ["inputs[1]"]
    assert errors_of_caller(Table(columns, arrays)[:1], refused) == []
    tree = DecisionTreeRegressor().fit([[0.0], [1.0]], [0.0, 1.0])
    runtime = SklearnRuntime(tree, ["predict"], (Column(name="size", type="number", nullable=True),))
    rows = np.array([[1.0], [1e39]])
    with np.errstate(over="ignore"), pytest.raises(RowsRefused) as raised:
        runtime.predict(rows)
    assert [error["field"] for error in errors_of_caller(rows, raised.value)] == ["inputs[1]"]


def test_sums__each_of_them_infinite__are_no_answer() -> None:
    form = LinearForm([0.0], [[-1e10], [-1e10]], [0.0, 0.0], "many-classes", [0, 1])
    runtime = LinearRuntime(form, ["predict", "predict_proba"])
    assert blamed(runtime, [[1e308]]) == ["inputs[0]"]
    assert runtime.predict(np.array([[1.0]]))["predict_proba"] == [[0.5, 0.5]]


@pytest.mark.parametrize("champion", ["sums", "tenfold"])
def test_predict__numbers_that_an_arm_overflows_with__is_a_400_and_no_failure(alice: Api, champion: str) -> None:
    models = [python_model("m", "1", champion), python_model("m", "2", "tenfold")]
    endpoint_of("m", "m@1", deadline_ms=10_000)
    arms = [{"name": f"v{i}", "model": model} for i, model in enumerate(models)]
    experiment = start_experiment({"name": "e", "endpoint": "m", "strategy": "ab", "arms": arms})
    process().store.refresh()

    def predict(unit: str, *inputs: list[float]) -> Any:
        return alice.post("/api/v1/endpoints/m/predict", {"inputs": inputs, "unit": unit})

    answers = [predict(f"u{i}", [1.0], [1e308]) for i in range(30)]
    refused = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, tuple(answer.fields())) for answer in refused} == {(400, ("inputs[1]",))}
    assert "1e+100" in refused[0]["errors"][0]["message"]
    assert {answer["arm"] for answer in answers if answer.status == 200} == ({"v0"} if champion == "sums" else set())
    live = process().store.endpoint("m")
    assert live is not None
    assert [arm.breaker.state for arm in live.arms] == ["closed", "closed"]
    assert [predict(f"u{i}", [1.0]).status for i in range(10)] == [200] * 10
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == len(answers) - len(refused) + 10
    assert not Decision.objects.filter(fallback_reason__isnull=False).exists()
