"""From a fitted model to a registered one: what is written, what travels, and what is refused."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noregret_client import Client, InvalidRequest, ModelNotTaken
from noregret_client.rows import columns_of, rows_of, sample_of
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.clients.conftest import served_by
from tests.clients.faulty_proxy import FaultyProxy, answered

X, Y = load_breast_cancer(return_X_y=True)


def test_sklearn__array_of_thousands_of_rows__is_registered_and_answers(client: Client) -> None:
    model = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(X, Y)
    registered = client.register(model, name="cancer", version="1", sample=np.vstack([X] * 10))
    assert (registered.model, registered.framework) == ("cancer@1", "sklearn")
    assert registered.signature["features"] == 30
    # As a notebook that is run again from its start.
    anew = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(X, Y)
    assert client.register(anew, name="cancer", version="1", sample=np.vstack([X] * 10)).id == registered.id
    client.create_endpoint("cancer", champion="cancer@1")
    served_by(client, "cancer", None)
    assert client.predict("cancer", X[:50]).predictions == model.predict(X[:50]).tolist()


def test_frame__with_a_names_order_of_its_own__is_checked_in_the_models(client: Client) -> None:
    pandas = pytest.importorskip("pandas", reason="NO PANDAS: frames are not tested")
    frame = pandas.DataFrame(X[:, :3], columns=["a", "b", "c"])
    model = RandomForestClassifier(5, random_state=0).fit(frame, Y)
    registered = client.register(model, name="ordered", version="1", sample=frame[["c", "a", "b"]])
    assert registered.signature["feature_names"] == ["a", "b", "c"]
    with pytest.raises(ModelNotTaken, match="lacks the column 'b'"):
        client.register(model, name="ordered", version="2", sample=frame[["c", "a"]])


def test_table_with_categories_gaps_and_texts__answers_as_the_original(client: Client) -> None:
    pandas = pytest.importorskip("pandas", reason="NO PANDAS: frames are not tested")
    frame = pandas.DataFrame(
        {
            "country": ["KR", "US", "DE", "KR"] * 10,
            "income": [1e9 + 0.25, 0.002, 5.0, 7.0] * 10,
            "member": [True, False, False, True] * 10,
        }
    )
    encoded = ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["country"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["income"]),
            ("rest", "passthrough", ["member"]),
        ]
    )
    model = make_pipeline(encoded, LogisticRegression()).fit(frame, ["stays", "leaves", "leaves", "stays"] * 10)
    registered = client.register(model, name="churn", version="1", sample=frame)
    types = {column["name"]: column["type"] for column in registered.signature["columns"]}
    assert types == {"country": "string", "income": "number", "member": "boolean"}
    client.create_endpoint("churn", champion="churn@1")
    asked = frame[:4].copy()
    asked.loc[0, "income"] = None
    asked.loc[1, "country"] = "FR"
    answer = client.predict("churn", asked)
    assert answer.predictions == model.predict(asked).tolist()
    assert client.endpoint("churn", fallback=model).predict(asked).outputs.keys() == answer.outputs.keys()
    with pytest.raises(InvalidRequest) as wrong:
        client.predict("churn", [{"country": "KR", "income": "much", "member": True}])
    assert wrong.value.field == "inputs[0].income"


def test_model_of_one_text__takes_texts(client: Client) -> None:
    texts = ["free money now", "lunch at noon", "free prize money", "see you at lunch"] * 5
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["spam", "ham"] * 10)
    client.register(model, name="mail", version="1", sample=texts)
    client.create_endpoint("mail", champion="mail@1")
    answer = client.predict("mail", ["free money", "lunch"])
    assert answer.predictions == model.predict(["free money", "lunch"]).tolist()


def test_model_fitted_on_an_array__sample_is_a_frame__knows_its_names(client: Client) -> None:
    pandas = pytest.importorskip("pandas", reason="NO PANDAS: frames are not tested")
    frame = pandas.DataFrame(X[:, :2], columns=["radius", "texture"])
    model = LogisticRegression().fit(frame.to_numpy(), Y)
    client.register(model, name="named", version="1", sample=frame)
    client.create_endpoint("named", champion="named@1")
    asked = frame[["texture", "radius"]][:20]
    assert client.predict("named", asked).predictions == model.predict(frame.to_numpy()[:20]).tolist()


def test_job__is_followed_to_its_end(proxy: FaultyProxy, client: Client, key: str) -> None:
    payload = client.register_payload({"x": 1}, name="slow", version="1")
    model = client.call("GET", "/api/v1/models/slow/1")
    running = {"job": "j-1", "status": "running", "model": None, "problem": None}
    with Client(proxy.url, key) as proxied:
        proxy.goes_wrong(
            answered(202, {"job": "j-1", "status": "running"}),
            answered(200, running),
            answered(200, running | {"status": "done", "model": model}),
        )
        assert proxied.register_payload({"x": 1}, name="slow", version="1") == payload
        assert [path for _, path, _ in proxy.requests][1:] == ["/api/v1/jobs/j-1"] * 2
        proxy.goes_wrong(
            answered(202, {"job": "j-1", "status": "running"}),
            answered(200, running | {"status": "failed", "problem": {"status": 422, "detail": "it holds a pickle"}}),
        )
        with pytest.raises(InvalidRequest, match="it holds a pickle") as failed:
            proxied.register_payload({"x": 1}, name="slow", version="1")
    assert failed.value.status == 422


def test_what_is_no_model__is_refused_here_or_there(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ModelNotTaken, match=r"not builtins\.dict"):
        client.register({"weights": [1]}, name="x", version="1")
    with pytest.raises(ModelNotTaken, match=r"\.skops or \.onnx"):
        client.register(tmp_path / "model.pkl", name="x", version="1")
    damaged = tmp_path / "model.skops"
    damaged.write_bytes(b"no skops file")
    with pytest.raises(InvalidRequest) as refused:
        client.register(damaged, name="x", version="1")
    assert refused.value.status == 422


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
@pytest.mark.parametrize("task", ["classifier", "regressor", "pipeline", "booster"])
def test_boosted_model__is_written_as_onnx_that_answers_alike(library: str, task: str) -> None:
    pytest.importorskip(library, reason=f"NO {library.upper()}: its models are not tested")
    pytest.importorskip("onnxmltools", reason="NO ONNXMLTOOLS: boosted models are not tested")
    import onnxruntime
    from noregret_client.artifacts import written

    model = boosted(library, task)
    artifact = written(model, X[:200])
    assert artifact.framework == "onnx"
    session = onnxruntime.InferenceSession(artifact.content)
    (given,) = session.get_inputs()
    answers = session.run(None, {given.name: X.astype(np.float64 if "double" in given.type else np.float32)})
    assert len(answers) == (1 if task == "regressor" else 2)
    if task in ("classifier", "pipeline"):
        assert answers[0].tolist() == model.predict(X).tolist()


def boosted(library: str, task: str) -> Any:
    if library == "lightgbm":
        import lightgbm

        if task == "booster":
            return lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(X, Y), 5)
        kind = lightgbm.LGBMRegressor if task == "regressor" else lightgbm.LGBMClassifier
        estimator = kind(n_estimators=5, verbose=-1)
    else:
        import xgboost

        if task == "booster":
            return xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(X, Y), 5)
        kind = xgboost.XGBRegressor if task == "regressor" else xgboost.XGBClassifier
        estimator = kind(n_estimators=5)
    if task == "estimator":
        return estimator
    if task == "pipeline":
        labels = np.array(["malignant", "benign"])[Y] if library == "lightgbm" else Y
        return make_pipeline(StandardScaler(), estimator).fit(X, labels)
    return estimator.fit(X, Y)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_boosted_pipeline__on_a_table_with_texts__has_an_input_a_column(library: str) -> None:
    pytest.importorskip(library, reason=f"NO {library.upper()}: its models are not tested")
    pytest.importorskip("onnxmltools", reason="NO ONNXMLTOOLS: boosted models are not tested")
    import onnxruntime
    import pandas
    from noregret_client.artifacts import written

    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"country": rng.choice(["KR", "US"], 200), "income": rng.normal(1e6, 1, 200), "member": rng.random(200) > 0.5}
    )
    encoder = ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="ignore"), ["country"]), ("rest", StandardScaler(), ["income"])],
        remainder="passthrough",
    )
    model = make_pipeline(encoder, boosted(library, "estimator")).fit(frame, (frame.country == "KR") & frame.member)
    session = onnxruntime.InferenceSession(written(model, frame).content)
    assert [one.name for one in session.get_inputs()] == ["country", "income", "member"]


def test_boosted_model__is_registered_and_answers_as_the_original(client: Client) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="NO LIGHTGBM: its models are not tested")
    pytest.importorskip("onnxmltools", reason="NO ONNXMLTOOLS: boosted models are not tested")
    import pandas

    frame = pandas.DataFrame(X[:, :4], columns=["a", "b", "c", "d"])
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(frame, Y)
    assert client.register(model, name="boosted", version="1", sample=frame).framework == "onnx"
    client.create_endpoint("boosted", champion="boosted@1")
    answer = client.predict("boosted", frame[["d", "c", "b", "a"]][:50])
    assert answer.predictions == model.predict(frame[:50]).tolist()
    assert np.allclose(answer.outputs["predict_proba"], model.predict_proba(frame[:50]), atol=1e-5)


def test_boosted_model__that_does_not_convert_faithfully__is_not_sent() -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="NO LIGHTGBM: its models are not tested")
    pytest.importorskip("onnxmltools", reason="NO ONNXMLTOOLS: boosted models are not tested")
    from noregret_client.artifacts import written

    # Thresholds at whole numbers near 1e9, which single precision can't tell apart.
    times = (1_000_000_000 + np.arange(400.0))[:, None]
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, min_child_samples=1).fit(times, np.arange(400) % 7 > 3)
    with pytest.raises(ModelNotTaken, match=r"otherwise than the original: \w+ of sample\[\d+\]"):
        written(model, times)
    with pytest.raises(ModelNotTaken, match="`sample`"):
        written(model, None)


def test_frames__become_rows_and_columns_by_their_dtypes() -> None:
    pandas = pytest.importorskip("pandas", reason="NO PANDAS: frames are not tested")
    frame = pandas.DataFrame(
        {
            "age": [31, 45],
            "income": [1e9 + 0.25, None],
            "country": pandas.Categorical(["KR", None], categories=["KR", "US"]),
            "member": [True, False],
            "note": ["a", None],
            "visits": pandas.array([3, None], dtype="Int64"),
            "tier": pandas.Categorical([2, 1]),
        }
    )
    assert rows_of(frame) == [
        {"age": 31, "income": 1e9 + 0.25, "country": "KR", "member": True, "note": "a", "visits": 3, "tier": 2},
        {"age": 45, "income": None, "country": None, "member": False, "note": None, "visits": None, "tier": 1},
    ]
    told = [(column.name, column.type, column.nullable) for column in columns_of(frame) or []]
    assert told == [
        ("age", "number", False),
        ("income", "number", True),
        ("country", "string", True),
        ("member", "boolean", False),
        ("note", "string", True),
        ("visits", "number", True),
        ("tier", "number", False),
    ]
    assert columns_of(X) is None
    assert columns_of(pandas.DataFrame(X)) is None
    assert rows_of(pandas.DataFrame(X[:2, :2])) == X[:2, :2].tolist()
    with pytest.raises(TypeError, match=r"column since: Timestamp has no form in JSON"):
        rows_of(pandas.DataFrame({"since": pandas.to_datetime(["2026-11-25"])}))


class ArrowTable:
    """As an Arrow table is asked: by `column_names` and `to_pylist`."""

    def __init__(self, names: list[str], *columns: list[float]) -> None:
        self.column_names, self.columns = names, list(columns)

    def to_pylist(self) -> list[dict[str, float]]:
        return [dict(zip(self.column_names, row, strict=True)) for row in zip(*self.columns, strict=True)]


def test_rows__other_shapes__are_taken_or_named() -> None:
    assert rows_of(ArrowTable(["a", "b"], [1.0], [2.0])) == [{"a": 1.0, "b": 2.0}]
    with pytest.raises(TypeError, match="column b: the table has it twice"):
        rows_of(ArrowTable(["a", "b", "b"], [1.0], [2.0], [3.0]))
    assert rows_of([[np.longdouble(0.5)]]) == rows_of(np.array([[0.5]], np.longdouble)) == [[0.5]]
    with pytest.raises(TypeError, match=r"rows\[0\]\[1\]: a half of a surrogate pair"):
        rows_of([["a", "\ud800"]])
    assert rows_of([["한국 😀"]]) == [["한국 😀"]]
    assert rows_of(np.array([[1.5, np.nan]])) == [[1.5, None]]
    assert rows_of([(1, np.float32(0.5)), np.array([2, 3])]) == [[1, 0.5], [2, 3]]
    with pytest.raises(TypeError, match="two dimensions"):
        rows_of(np.zeros(3))
    with pytest.raises(TypeError, match=r"rows\[0\]\[1\]: infinity"):
        rows_of(np.array([[1.0, np.inf]]))
    with pytest.raises(TypeError, match=r"rows\[1\]\.b: date"):
        rows_of([{"b": 1}, {"b": datetime.date(2026, 11, 25)}])
    assert rows_of(["a text", "another"]) == rows_of(np.array(["a text", "another"])) == [["a text"], ["another"]]
    assert sample_of(np.arange(10), 3).tolist() == [0, 3, 6]
