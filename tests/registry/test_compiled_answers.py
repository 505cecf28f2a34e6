"""What a registered model answers, compiled or not, is what the original answers, on rows of the
kind that its data have."""

from typing import Any

import numpy as np
import pytest
import skops.io
from django.core.files.uploadedfile import SimpleUploadedFile
from noregret.learning.health import sign_of_life
from noregret.registry import compiling, signature
from noregret.registry.check_rows import check_rows, neighbours
from noregret.registry.errors import ArtifactRefused
from noregret.registry.examining import NotAnswering, examine
from noregret.registry.models import ModelVersion
from noregret.registry.original import Answers
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from serving.live import LiveModel, load_model
from serving.runtimes.onnx_graph import OnnxRuntime
from serving.runtimes.runtime import ModelError, Outputs
from serving.runtimes.sklearn import SklearnModel, SklearnRuntime
from tests.conftest import Api, endpoint_of
from tests.registry.inspected import inspect

IRIS, SPECIES = load_iris(return_X_y=True)
Rows = NDArray[np.float64]


def served(estimator: Any, sample: Rows | None = None) -> tuple[Any, signature.Signature, compiling.Compiled]:
    """The runtime that the registry would choose for an estimator, in this process."""
    known, compiled = examine(estimator, signature.read(estimator), sample)
    if compiled.body is None:
        return SklearnRuntime(estimator, known.outputs), known, compiled
    return OnnxRuntime(compiled.body, known.outputs), known, compiled


def iris_like(rows: int, seed: int = 5) -> Rows:
    """Rows with one decimal, as iris has."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.choice(column, rows) for column in IRIS.T], axis=1).round(1)


def sums(rows: int) -> tuple[Rows, Rows]:
    """[amount, epoch seconds], and something that depends on both."""
    generator = np.random.default_rng(3)
    amounts = generator.lognormal(3, 1, rows).round(2)
    seconds = 1.7e9 + generator.uniform(0, 3e7, rows).round()
    return np.stack((amounts, seconds), axis=1), amounts * 0.3 + 5 * np.sin((seconds - 1.7e9) / 3e6)


def test_forest__rows_with_one_decimal__no_label_and_no_probability_differs() -> None:
    model = RandomForestClassifier(50, random_state=1).fit(IRIS, SPECIES)
    found = inspect(skops.io.dumps(model))
    assert found.compiled is not None, found.note
    runtime = OnnxRuntime(found.compiled, found.signature.outputs)
    assert runtime.predict(np.array([[6.9, 3.9, 5.5, 0.7]]))["predict"] == [0]
    rows = iris_like(1000)
    answers = runtime.predict(rows)
    assert answers["predict"] == model.predict(rows).tolist()
    assert np.array_equal(answers["predict_proba"], model.predict_proba(rows))


@pytest.mark.parametrize("trees", [10, 50])
def test_forest__even_votes__are_decided_as_the_original_decides(trees: int) -> None:
    # Fully grown trees on pure noise, no row twice: many rows have as many votes on either side.
    generator = np.random.default_rng(1)
    every = np.stack(np.meshgrid(*[np.arange(4.0)] * 4), axis=-1).reshape(-1, 4)
    labels = generator.integers(0, 2, len(every))
    seen = generator.permutation(len(every))[:160]
    model = RandomForestClassifier(trees, random_state=0).fit(every[seen], labels[seen])
    runtime, _, compiled = served(model)
    assert compiled.body is not None, compiled.note
    shares = model.predict_proba(every)
    assert (shares[:, 0] == shares[:, 1]).any()
    assert runtime.predict(every)["predict"] == model.predict(every).tolist()


def test_scaled_support_vectors__epoch_seconds__every_row_is_answered_as_by_the_original() -> None:
    rows, target = sums(400)
    model = make_pipeline(StandardScaler(), SVR(C=10)).fit(rows[:200], target[:200])
    runtime, _, _ = served(model)
    expected = model.predict(rows[200:])
    assert np.allclose(runtime.predict(rows[200:])["predict"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingClassifier(max_iter=20),
        HistGradientBoostingRegressor(max_iter=20),
        HistGradientBoostingRegressor(max_iter=20, loss="poisson"),
    ],
)
def test_histogram_boosting__is_compiled_and_answers_the_same(model: Any) -> None:
    model = clone(model).fit(IRIS, SPECIES)
    found = inspect(skops.io.dumps(model))
    assert found.compiled is not None, found.note
    rows = iris_like(500)
    answers = OnnxRuntime(found.compiled, found.signature.outputs).predict(rows)
    assert np.allclose(answers["predict"], model.predict(rows), rtol=1e-12)
    if is_classifier(model):
        assert np.allclose(answers["predict_proba"], model.predict_proba(rows), atol=1e-12)


def test_imputer_before_histogram_boosting__stays_with_doubles() -> None:
    rows, target = sums(300)
    model = make_pipeline(SimpleImputer(), HistGradientBoostingRegressor(max_iter=20)).fit(rows, target)
    runtime, _, compiled = served(model)
    assert compiled.body is not None, compiled.note
    assert np.allclose(runtime.predict(rows)["predict"], model.predict(rows), rtol=1e-12)


# Over many kinds of estimators and of data: what is served is held against the original on rows
# that neither has seen.


def data(kind: str, rows: int, seed: int) -> Rows:
    generator = np.random.default_rng(seed)
    if kind == "decimals":
        return generator.normal([5, 3, 3.7, 1.2], [0.8, 0.4, 1.7, 0.7], (rows, 4)).round(1)
    if kind == "offsets":
        amounts = generator.lognormal(3, 1, rows).round(2)
        return np.stack(
            (amounts, 1.7e9 + generator.uniform(0, 3e7, rows).round(), generator.normal(273.15, 9, rows).round(2)), 1
        )
    if kind == "integers":
        return generator.poisson([3, 20, 1, 200], (rows, 4)).astype(float)
    if kind == "categories":
        return np.column_stack(
            (generator.integers(1, 4, (rows, 2)), generator.integers(0, 6, rows), generator.normal(size=rows).round(1))
        )
    assert kind == "positive"
    return generator.lognormal(0, 1, (rows, 3)).round(2) + 0.01


def encoded() -> ColumnTransformer:
    return ColumnTransformer([("categories", OneHotEncoder(), [0, 1, 2]), ("numbers", StandardScaler(), [3])])


CLASSIFIERS = {
    "logistic": LogisticRegression(max_iter=500),
    "bayes": GaussianNB(),
    "tree": DecisionTreeClassifier(random_state=0),
    "forest": RandomForestClassifier(20, random_state=0),
    "extra": ExtraTreesClassifier(20, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=15, random_state=0),
    "histogram": HistGradientBoostingClassifier(max_iter=15),
    "adaptive": AdaBoostClassifier(n_estimators=8, random_state=0),
    "bagging": BaggingClassifier(random_state=0),
    "voting": VotingClassifier([("a", RandomForestClassifier(8, random_state=0)), ("b", GaussianNB())], voting="soft"),
    "support": SVC(),
    "neighbours": KNeighborsClassifier(algorithm="brute"),
    "perceptron": MLPClassifier(max_iter=40, random_state=0),
}
REGRESSORS = {
    "linear": LinearRegression(),
    "tree": DecisionTreeRegressor(random_state=0),
    "forest": RandomForestRegressor(15, random_state=0),
    "extra": ExtraTreesRegressor(15, random_state=0),
    "boosting": GradientBoostingRegressor(n_estimators=15, random_state=0),
    "histogram": HistGradientBoostingRegressor(max_iter=15),
    "support": SVR(C=10),
}
STEPS: dict[str, list[Any]] = {
    "decimals": [None, StandardScaler(), KBinsDiscretizer(4, encode="ordinal")],
    "offsets": [StandardScaler(), MinMaxScaler(), RobustScaler()],
    "integers": [None, RobustScaler()],
    "categories": [None, encoded()],
    "positive": [PowerTransformer("box-cox"), FunctionTransformer(np.log1p)],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("models", [CLASSIFIERS, REGRESSORS], ids=["classifiers", "regressors"])
def test_served_model__held_out_rows_of_its_kind__answers_as_the_original(kind: str, models: dict[str, Any]) -> None:
    rows, unseen = data(kind, 300, 1), data(kind, 600, 2)
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    target = scaled[:, 0] + np.sin(2 * scaled[:, 1]) + scaled[:, -1] * scaled[:, 0] / 2
    compiled_ones = 0
    # Each kind of model meets every other kind of data.
    chosen = dict(list(models.items())[list(STEPS).index(kind) % 2 :: 2])
    for name, plain in chosen.items():
        step = STEPS[kind][len(name) % len(STEPS[kind])]  # each kind of model behind one of the steps
        model = clone(plain) if step is None else make_pipeline(clone(step), clone(plain))
        model.fit(rows, np.digitize(target, np.quantile(target, [0.4, 0.8])) if is_classifier(plain) else target)
        runtime, known, compiled = served(model)
        compiled_ones += compiled.body is not None
        answers = runtime.predict(unseen)
        for output in known.outputs:
            expected = getattr(model, output)(unseen)
            if expected.dtype.kind == "f":
                assert np.allclose(answers[output], expected, rtol=1e-6, atol=1e-6), (name, step, compiled.note)
            else:
                assert answers[output] == expected.tolist(), (name, step, compiled.note)
        assert known.example_rows
        runtime.predict(np.array(known.example_rows))
    # All would be equal if nothing were compiled. What makes numbers positive has no converter that
    # does it in doubles.
    assert kind == "positive" or compiled_ones >= len(chosen) // 2


# What must be found out, and how it is found out.


def test_check_rows__scaled_tree__lie_on_every_threshold_and_beside_it() -> None:
    rows, target = sums(300)
    model = make_pipeline(StandardScaler(), DecisionTreeRegressor(max_leaf_nodes=20, random_state=0)).fit(rows, target)
    seen = model[0].transform(check_rows(model, 2, None).rows).astype(np.float32)
    tree = model[1].tree_
    for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
        if feature < 0:
            continue
        below, above = (
            seen[seen[:, feature] <= threshold, feature].max(),
            seen[seen[:, feature] > threshold, feature].min(),
        )
        assert np.nextafter(below, np.float32(np.inf)) == above


def test_check_rows__offsets_categories_and_positive_numbers__lie_where_the_data_were() -> None:
    rows, target = sums(300)
    scaled = make_pipeline(StandardScaler(), Ridge()).fit(rows, target)
    seconds = check_rows(scaled, 2, None).rows[:, 1]
    assert ((seconds > 1.6e9) & (seconds < 1.8e9)).mean() > 0.7
    rows = data("categories", 300, 1)
    model = make_pipeline(encoded(), Ridge()).fit(rows, rows[:, 3])
    checks = check_rows(model, 4, None)
    assert checks.exact == {0, 1, 2}
    assert [set(column) for column in checks.rows[:, :3].T] == [{1, 2, 3}, {1, 2, 3}, {0, 1, 2, 3, 4, 5}]
    rows = data("positive", 300, 1)
    model = make_pipeline(PowerTransformer("box-cox"), Ridge()).fit(rows, rows[:, 0])
    assert (check_rows(model, 3, None).rows > 0).all(axis=1).mean() > 0.8


def test_check_rows__same_model_again__same_rows() -> None:
    model = RandomForestClassifier(5, random_state=1).fit(IRIS, SPECIES)
    assert np.array_equal(check_rows(model, 4, None).rows, check_rows(model, 4, None).rows)


def test_neighbours__of_a_threshold__hold_both_sides_and_the_decimals_around() -> None:
    near = neighbours(np.array([2.45]))
    single = np.float32(2.45)
    for value in (2.45, np.nextafter(2.45, 0), np.nextafter(2.45, 9), 2.4, 2.5, 2.0, 3.0, float(single)):
        assert np.isclose(near, value, rtol=0, atol=0).any(), value
    assert np.nextafter(single, np.float32(9)) in near


def test_difference__small_answer_beside_large_ones__is_measured_by_itself() -> None:
    expected = np.array([1e6, 1e6, 0.001])
    assert compiling.difference("predict", expected + np.array([0.1, 0.1, 0.0]), expected) is None
    assert compiling.difference("predict", expected + np.array([0.0, 0.0, 0.01]), expected) is not None
    assert compiling.difference("predict", np.array([1, 2]), np.array([1, 3])) is not None
    shares = np.array([[0.5, 0.5]])
    assert compiling.difference("predict_proba", shares + np.array([[1e-5, -1e-5]]), shares) is not None
    assert compiling.difference("predict_proba", np.array([[np.nan, 0.5]]), shares) is not None


def test_conversion__that_would_take_minutes__leaves_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "CONVERTING_SECONDS", 0.5)
    rows = data("integers", 200, 1)
    model = make_pipeline(QuantileTransformer(n_quantiles=100), Ridge()).fit(rows, rows[:, 0])
    runtime, _, compiled = served(model)
    assert compiled.body is None
    assert "not converted in 0.5 s" in compiled.note
    assert runtime.predict(rows)["predict"] == model.predict(rows).tolist()


def test_compiled_trees__reading_features_that_do_not_exist__are_not_compiled() -> None:
    model = HistGradientBoostingRegressor(max_iter=3).fit(IRIS, SPECIES)
    predictor = model._predictors[0][0]
    predictor.nodes = predictor.nodes.copy()
    original = predictor.nodes["feature_idx"][0]
    predictor.nodes["feature_idx"][0] = 3
    known = signature.read(model)
    rows = check_rows(model, 4, None).rows
    runtime = SklearnRuntime(model, known.outputs)
    answers = Answers(rows, {"predict": np.asarray(runtime.predict(rows)["predict"])})
    assert compiling.compile_to_onnx(model, known, answers).body is not None
    predictor.nodes["feature_idx"][0] = 9
    refused = compiling.compile_to_onnx(model, known, answers)
    assert refused.body is None
    assert "features that do not exist" in refused.note
    predictor.nodes["feature_idx"][0], predictor.nodes["left"][0] = original, 0
    assert compiling.compile_to_onnx(model, known, answers).body is None


# Taken is servable.


def upload(api: Api, model: Any) -> Any:
    artifact = SimpleUploadedFile("model.skops", skops.io.dumps(model))
    return api.upload("/api/v1/models", {"name": "m", "version": "1", "framework": "sklearn", "artifact": artifact})


@pytest.mark.parametrize("name", ["categories", "positive"])
def test_model__that_takes_no_zeros__is_registered_served_and_ready(alice: Api, charlie: Api, name: str) -> None:
    rows = data(name, 200, 4)[:, :3]
    step = OneHotEncoder() if name == "categories" else PowerTransformer("box-cox")
    model = make_pipeline(step, LogisticRegression(max_iter=500)).fit(
        rows, (rows[:, 0] > np.median(rows[:, 0])).astype(int)
    )
    answer = upload(alice, model)
    assert answer.status == 201, answer.content
    endpoint_of("m", "m@1")
    answer = alice.post("/api/v1/endpoints/m/predict", {"inputs": rows[:20].tolist()})
    assert (answer.status, answer["outputs"]["predict"]) == (200, model.predict(rows[:20]).tolist())
    sign_of_life()
    ready = charlie.get("/readyz")
    assert ready.status == 200, ready.content
    assert ready["checks"]["snapshots"]["models_failing_examples"] == []


def by_names(model: Any, names: list[str]) -> Any:
    """As if its ColumnTransformer had been fitted to a DataFrame, with columns by name."""
    transformer = model[0]
    named = [(name, step, [names[column] for column in columns]) for name, step, columns in transformer.transformers_]
    transformer.transformers = transformer.transformers_ = named
    transformer._columns = [columns for _, _, columns in named]
    transformer.feature_names_in_ = np.array(names, dtype=object)
    return model


def test_model__with_columns_by_name__is_served_by_position_and_by_name(alice: Api) -> None:
    rows, names = data("categories", 200, 4), ["shop", "weekday", "size", "price"]
    model = make_pipeline(encoded(), Ridge()).fit(rows, rows[:, 3])
    expected = model.predict(rows[:10]).tolist()
    answer = upload(alice, by_names(model, names))
    assert answer.status == 201, answer.content
    endpoint_of("m", "m@1")
    by_position = alice.post("/api/v1/endpoints/m/predict", {"inputs": rows[:10].tolist()})
    assert by_position["outputs"]["predict"] == pytest.approx(expected, rel=1e-6)
    by_name = [dict(zip(names, row, strict=True)) for row in rows[:10].tolist()]
    answer = alice.post("/api/v1/endpoints/m/predict", {"inputs": by_name})
    assert answer["outputs"]["predict"] == by_position["outputs"]["predict"]


def test_model__whose_sample_holds_a_row_that_it_does_not_take__is_refused_with_the_row() -> None:
    rows = data("categories", 200, 4)[:, :3]
    model = make_pipeline(OneHotEncoder(), Ridge()).fit(rows, rows[:, 0])
    with pytest.raises(NotAnswering, match=r"row 1 of the sample.*unknown categories"):
        examine(model, signature.read(model), np.array([[1.0, 1.0, 1.0], [1.0, 9.0, 1.0]]))
    with pytest.raises(ArtifactRefused, match="row 1 of the sample"):
        inspect(skops.io.dumps(model), sample=[[1.0, 1.0, 1.0], [1.0, 9.0, 1.0]])


class Picky:
    """Takes no row with a zero."""

    bounded = True

    def __init__(self) -> None:
        self.calls: list[list[list[float]]] = []

    def predict(self, rows: Rows) -> Outputs:
        self.calls.append(rows.tolist())
        if (rows == 0).any():
            raise ModelError("a zero")
        return {"predict": [1] * len(rows)}


def live_with(example_rows: list[list[float]] | None) -> tuple[Picky, LiveModel]:
    runtime = Picky()
    model = SklearnModel(model="m@1", framework="sklearn", sha256="", features=2, example_rows=example_rows)
    return runtime, load_model(lambda model: runtime, model)


def test_warming__with_example_rows__asks_those() -> None:
    runtime, live = live_with([[1.0, 2.0], [3.0, 4.0]])
    assert runtime.calls == [[[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0]]]
    assert (live.runtime, live.problem) == (runtime, None)


def test_warming__model_of_before__asks_nothing_and_is_loaded() -> None:
    runtime, live = live_with(None)
    assert runtime.calls == []
    assert (live.runtime, live.problem) == (runtime, None)


def test_warming__that_fails__is_told_and_leaves_the_model_loaded() -> None:
    runtime, live = live_with([[1.0, 0.0]])
    assert live.runtime is runtime
    assert live.problem == "failed on its example rows: ModelError: a zero"


def test_signature__registered_before_there_were_example_rows__is_published_and_served(alice: Api) -> None:
    assert upload(alice, LogisticRegression(max_iter=500).fit(IRIS, SPECIES)).status == 201
    version = ModelVersion.objects.get()
    assert len(version.signature["example_rows"]) > 0
    del version.signature["example_rows"]
    version.save(update_fields=["signature"])
    endpoint_of("m", "m@1")
    assert alice.post("/api/v1/endpoints/m/predict", {"inputs": IRIS[:3].tolist()}).status == 200
