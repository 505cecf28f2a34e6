"""A linear model is evaluated without ONNX Runtime, and answers what the original answers."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from noregret.registry import compiling, signature
from noregret.registry.examining import examine
from noregret.registry.linear_form import linear_form
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC

from serving.runtimes import ModelError, onnx_graph
from serving.runtimes.linear import METADATA, LinearForm, LinearRuntime
from serving.runtimes.onnx_graph import OnnxRuntime

Rows = NDArray[np.float64]


def data(features: int, classes: int, offset: float = 1e9) -> tuple[Rows, NDArray[Any], NDArray[Any]]:
    """Rows of features of unlike sizes, one of them `offset` from zero; labels; and a number."""
    generator = np.random.default_rng(7)
    rows = generator.normal(size=(400, features)) * np.geomspace(0.01, 100.0, features)
    rows[:, 0] += offset
    scores = (rows - rows.mean(axis=0)) / rows.std(axis=0) @ generator.normal(size=(features, classes))
    labels = scores.argmax(axis=1) if classes > 1 else np.zeros(400, dtype=int)
    return rows, labels, scores[:, 0] * 1000.0 + 5.0


MODELS: dict[str, tuple[Any, int, int]] = {
    "logistic, 2 classes": (make_pipeline(StandardScaler(), LogisticRegression()), 4, 2),
    "logistic, 3 classes": (make_pipeline(StandardScaler(), LogisticRegression()), 4, 3),
    "logistic, 10 classes of 64": (make_pipeline(StandardScaler(), LogisticRegression(max_iter=50)), 64, 10),
    "logistic, cross-validated": (
        make_pipeline(
            MinMaxScaler(),
            LogisticRegressionCV(Cs=3, cv=3, l1_ratios=(0.0,), scoring="accuracy", use_legacy_attributes=False),
        ),
        4,
        3,
    ),
    "scaled by the largest": (make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=50)), 4, 3),
    "without an intercept": (make_pipeline(StandardScaler(), LogisticRegression(fit_intercept=False)), 4, 3),
    "not centred": (make_pipeline(StandardScaler(with_mean=False), LogisticRegression()), 4, 2),
    "discriminant analysis": (make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()), 4, 3),
    "regression": (make_pipeline(StandardScaler(), LinearRegression()), 4, 0),
    "ridge": (make_pipeline(StandardScaler(), Ridge()), 4, 0),
    "sparse": (make_pipeline(StandardScaler(), ElasticNet()), 64, 0),
}


@pytest.fixture(params=sorted(MODELS))
def fitted(request: pytest.FixtureRequest) -> tuple[Any, Rows]:
    estimator, features, classes = MODELS[request.param]
    # A scaler that does not centre loses digits far from zero, and a compiled model loses others.
    offset = 1e9 if isinstance(estimator[0], StandardScaler) and estimator[0].with_mean else 10.0
    rows, labels, numbers = data(features, max(classes, 1), offset)
    names = np.array([f"class {i}" for i in range(10)])
    return estimator.fit(rows, names[labels] if classes else numbers), rows


def test_linear_model__is_served_by_its_form__and_answers_as_the_original(fitted: tuple[Any, Rows]) -> None:
    estimator, rows = fitted
    known, compiled = examine(estimator, signature.read(estimator), None)
    assert compiled.body is not None, compiled.note
    runtime = onnx_graph.load(compiled.body, known.outputs)
    assert isinstance(runtime, LinearRuntime)
    generator = np.random.default_rng(1)
    asked = np.concatenate((rows, rows + generator.normal(size=rows.shape) * rows.std(axis=0) * 30.0))
    together = runtime.predict(asked)
    singly = [runtime.predict(row[None]) for row in asked]
    assert together.keys() == set(known.outputs)
    for name in known.outputs:
        expected = np.asarray(getattr(estimator, name)(asked))
        assert compiling.difference(name, np.asarray(together[name]), expected) is None
        assert compiling.difference(name, np.asarray([answer[name][0] for answer in singly]), expected) is None


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("last", [RidgeClassifier(), LinearSVC(), SGDClassifier(random_state=1)], ids=repr)
def test_form__of_a_classifier_without_probabilities__answers_as_it_does(last: Any, classes: int) -> None:
    rows, labels, _ = data(4, classes)
    estimator = make_pipeline("passthrough", StandardScaler(), last).fit(rows, labels)
    form = linear_form(estimator)
    assert form is not None
    assert LinearRuntime(form, ["predict"]).predict(rows) == {"predict": estimator.predict(rows).tolist()}


class Grumpy(LogisticRegression):
    """Answers otherwise than the class that it comes from."""

    def predict(self, rows: Any) -> Any:
        return super().predict(rows)[::-1]


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=50)),
        make_pipeline(RobustScaler(), LogisticRegression(max_iter=50)),
        make_pipeline(MinMaxScaler(clip=True), LogisticRegression()),
        make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=1)),
        make_pipeline(StandardScaler(), PoissonRegressor()),
        make_pipeline(StandardScaler(), Grumpy()),
    ],
    ids=lambda estimator: "-".join(name for name, _ in estimator.steps) + type(estimator[-1]).__name__,
)
def test_model__that_is_not_known_as_linear__has_no_form(estimator: Any) -> None:
    rows, labels, _ = data(4, 3)
    assert linear_form(estimator.fit(rows, labels)) is None


def test_form__of_several_numbers_a_row__is_none() -> None:
    rows, _, numbers = data(4, 3)
    assert linear_form(LinearRegression().fit(rows, np.stack((numbers, numbers), axis=1))) is None


def test_form__that_answers_otherwise__is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels, _ = data(4, 3)
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    right = linear_form(estimator)
    assert right is not None
    wrong = dataclasses.replace(right, intercepts=[value + 1e-3 * i for i, value in enumerate(right.intercepts)])
    monkeypatch.setattr(compiling, "linear_form", lambda _: wrong)
    known, compiled = examine(estimator, signature.read(estimator), None)
    assert compiled.body is not None
    assert isinstance(onnx_graph.load(compiled.body, known.outputs), OnnxRuntime)


def test_form__in_the_metadata__does_not_change_what_onnx_runtime_answers() -> None:
    # A web process of an earlier version serves the same file by its graph.
    rows, labels, _ = data(4, 3)
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    known, compiled = examine(estimator, signature.read(estimator), None)
    assert compiled.body is not None
    runtime = OnnxRuntime(compiled.body, known.outputs)
    assert METADATA in runtime.metadata
    assert runtime.predict(rows)["predict"] == estimator.predict(rows).tolist()


@pytest.mark.parametrize("link", ["identity", "two-classes", "many-classes"])
@pytest.mark.parametrize("count", [1, 2])
def test_sums__that_are_no_numbers__are_told(link: Any, count: int) -> None:
    sums = 3 if link == "many-classes" else 1
    form = LinearForm([0.0, 0.0], [[1.0, 1.0]] * sums, [0.0] * sums, link, [0, 1, 2])
    runtime = LinearRuntime(form, ["predict", "predict_proba"])
    with pytest.raises(ModelError, match="not finite"):
        runtime.predict(np.full((count, 2), np.nan))


def test_probabilities__of_scores_far_from_zero__are_none_and_all() -> None:
    form = LinearForm([0.0], [[1.0]], [0.0], "two-classes", ["no", "yes"])
    runtime = LinearRuntime(form, ["predict", "predict_proba"])
    for score, label, expected in ((5000.0, "yes", [0.0, 1.0]), (-5000.0, "no", [1.0, 0.0]), (0.0, "no", [0.5, 0.5])):
        assert runtime.predict(np.array([[score]])) == {"predict": [label], "predict_proba": [expected]}
