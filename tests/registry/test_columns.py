"""Models whose rows are more than numbers: columns as the model tells them, equal to the original,
and what a row that does not fit is told.
"""

import json
import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from django.core.files.uploadedfile import SimpleUploadedFile
from noregret.registry.column_signature import ColumnsDiffer, with_columns
from noregret.registry.errors import ArtifactRefused
from noregret.registry.frameworks import Examined
from noregret.registry.frameworks.protocol import NO_SIGNATURE
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.registry.models import ModelVersion
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from serving.runtimes import RowsRefused, Runtime, onnx_graph, skops_reading
from serving.runtimes.linear import LinearRuntime
from serving.runtimes.onnx_graph import OnnxRuntime
from serving.runtimes.rows import RowsInvalid, from_columns, to_rows
from serving.runtimes.sklearn import SklearnRuntime
from tests.conftest import Api, endpoint_of, python_model
from tests.registry import tables


@cache
def fitted(name: str) -> tuple[Any, bytes]:
    model = tables.MODELS[name][0]()
    return model, skops.io.dumps(model)


def examined(body: bytes, **options: Any) -> Examined:
    return SklearnFramework().inspect(body, {"trusted": [], "sample": None, **options})


@cache
def known(name: str) -> Examined:
    return examined(fitted(name)[1])


def runtime_of(body: bytes, found: Examined) -> Runtime:
    signature = found.signature
    if found.compiled is not None:
        return OnnxRuntime(found.compiled, signature.outputs)
    return SklearnRuntime(skops_reading.read(body, []), signature.outputs, signature.columns)


def told(found: Examined) -> dict[str, str]:
    return {column.name: str(column) for column in found.signature.columns or ()}


COLUMNS = {
    "one-hot": {"country": "string", "age": "number", "income": "number", "plan": "string"},
    "filled": {
        "country": "string, nullable", "age": "number, nullable", "income": "number, nullable", "plan": "string, nullable",
    },
    "boosted": {
        "country": "string, nullable", "age": "number, nullable", "income": "number, nullable", "plan": "string, nullable",
    },
    "gaps as category": {
        "country": "string, nullable", "age": "number, nullable", "income": "number, nullable", "plan": "string",
    },
    "mixed array": {
        "x0": "string, nullable", "x1": "number, nullable", "x2": "number, nullable", "x3": "string",
    },
    "text": {"text": "string"},
    "text column": {"age": "number", "text": "string"},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_columns__are_read_from_the_model(name: str) -> None:
    assert told(known(name)) == COLUMNS[name]


@pytest.mark.parametrize("name", sorted(tables.MODELS))
@pytest.mark.parametrize("count", [1, 30])
def test_model_of_a_table__answers_as_its_original(name: str, count: int) -> None:
    (model, body), found = fitted(name), known(name)
    _, table_of, given_of = tables.MODELS[name]
    table = table_of()[:count]
    sent = json.loads(json.dumps(tables.rows(table)))
    answer = runtime_of(body, found).predict(to_rows(sent, found.signature))
    assert answer["predict"] == model.predict(given_of(table)).tolist()
    np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(given_of(table)), atol=1e-6)
    if found.signature.feature_names is not None:
        assert found.signature.columns is not None
        names = [column.name for column in found.signature.columns]
        by_name = [dict(zip(names, row, strict=True)) for row in sent]
        assert runtime_of(body, found).predict(to_rows(by_name, found.signature)) == answer


def test_model__of_categories_that_it_may_not_know__is_compiled_with_an_input_a_column() -> None:
    found, (model, body) = known("one-hot"), fitted("one-hot")
    assert found.compiled is not None, found.note
    strange = tables.full()[:3].assign(country=["XX", "", "kr "], plan=["free", "é", "PRO"])
    answer = runtime_of(body, found).predict(to_rows(tables.rows(strange), found.signature))
    np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(strange), atol=1e-6)


def test_model__that_refuses_an_unknown_category__says_so() -> None:
    found, (_, body) = known("one-hot that refuses"), fitted("one-hot that refuses")
    assert found.compiled is None
    unknown = tables.full()[:1].assign(country="XX")
    with pytest.raises(RowsRefused, match=r"unknown categories.*XX"):
        runtime_of(body, found).predict(to_rows(tables.rows(unknown), found.signature))


@pytest.mark.parametrize("name", ["boosted", "filled", "gaps as category", "mixed array"])
def test_model__with_gaps_and_unknown_categories__answers_as_its_original(name: str) -> None:
    found, (model, body) = known(name), fitted(name)
    strange = tables.with_gaps()[:4].assign(country=["XX", None, "US", ""], age=[None, 1e9, 0.002, -1.0])
    strange = strange.astype({"age": float})
    answer = runtime_of(body, found).predict(to_rows(tables.rows(strange), found.signature))
    given = tables.MODELS[name][2](strange)
    np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(given), atol=1e-6)


def test_columns_of_integers_and_booleans__are_told_by_categories_and_the_sample() -> None:
    generator = np.random.default_rng(2)
    table = pd.DataFrame(
        {"floor": generator.integers(0, 4, 80), "vip": generator.random(80) < 0.5, "share": generator.random(80)}
    )
    columns = [("c", tables.OneHotEncoder(handle_unknown="ignore"), ["floor", "vip"])]
    inner = tables.ColumnTransformer(columns, remainder="passthrough")
    model = make_pipeline(inner, LogisticRegression()).fit(table, np.arange(80) % 2)
    body = skops.io.dumps(model)
    found = examined(body)
    assert told(found) == {"floor": "integer", "vip": "boolean", "share": "number"}
    answer = runtime_of(body, found).predict(to_rows(tables.rows(table), found.signature))
    np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(table), atol=1e-6)
    plain = make_pipeline(SimpleImputer(), LogisticRegression()).fit(table.astype(float), np.arange(80) % 2)
    sampled = examined(skops.io.dumps(plain), sample=[[1, True, None], [2, False, 0.5]])
    assert (sampled.signature.sampled, sampled.signature.example_rows[0]) == (True, [1.0, 1.0, None])
    assert examined(skops.io.dumps(plain)).signature.sampled is False
    assert told(sampled) == {"floor": "number, nullable", "vip": "boolean, nullable", "share": "number, nullable"}


def test_columns_of_whole_numbers_and_truths__go_into_one_array() -> None:
    generator = np.random.default_rng(3)
    table = pd.DataFrame({"floor": generator.integers(-3, 9, 90), "vip": generator.random(90) < 0.5})
    model = LogisticRegression().fit(table, np.arange(90) % 2)
    body = skops.io.dumps(model)
    given = [{"name": "floor", "type": "integer"}, {"name": "vip", "type": "boolean"}]
    found = examined(body, columns=given)
    assert found.compiled is not None, found.note
    rows = to_rows(tables.rows(table), found.signature)
    for runtime in (runtime_of(body, found), onnx_graph.load(found.compiled, found.signature.outputs)):
        np.testing.assert_allclose(runtime.predict(rows)["predict_proba"], model.predict_proba(table), atol=1e-6)
    assert isinstance(runtime, LinearRuntime)


def test_model_of_numbers__has_no_columns__as_before() -> None:
    X, y = np.arange(60.0).reshape(30, 2), np.arange(30) % 2
    for model in (LogisticRegression(), HistGradientBoostingClassifier(max_iter=3)):
        found = examined(skops.io.dumps(model.fit(X, y)))
        assert (found.signature.columns, found.signature.feature_names, found.signature.features) == (None, None, 2)
    boosted = HistGradientBoostingClassifier(max_iter=3).fit(pd.DataFrame(X, columns=["a", "b"]), y)
    body = skops.io.dumps(boosted)
    found = examined(body)
    assert told(found) == {"a": "number, nullable", "b": "number, nullable"}
    assert found.compiled is not None, found.note
    rows = to_rows([[None, 3.0], {"a": 4, "b": None}], found.signature)
    assert (
        runtime_of(body, found).predict(rows)["predict"]
        == boosted.predict(pd.DataFrame({"a": [np.nan, 4.0], "b": [3.0, np.nan]})).tolist()
    )


def test_columns_that_are_given__count__and_are_held_against_the_model() -> None:
    body = fitted("one-hot")[1]
    names = ["country", "age", "income", "plan"]
    types = ["string", "number", "integer", "string"]
    given = [{"name": name, "type": kind, "nullable": False} for name, kind in zip(names, types, strict=True)]
    assert told(examined(body, columns=given))["income"] == "integer"
    with pytest.raises(ArtifactRefused, match="3 columns where the model takes 4"):
        examined(body, columns=given[1:])
    with pytest.raises(ArtifactRefused, match=r"calls column 1 'years'.*fitted on 'age'"):
        examined(body, columns=[given[0], given[1] | {"name": "years"}, *given[2:]])
    with pytest.raises(ArtifactRefused, match="takes no null in column 'age', which `columns` calls nullable"):
        examined(body, columns=[given[0], given[1] | {"nullable": True}, *given[2:]])
    with pytest.raises(ArtifactRefused, match=r"sample\[1\].age: a number was expected, not a string"):
        examined(body, sample=[*tables.rows(tables.full()[:1]), ["KR", "40", 1.0, "pro"]])


def test_row_that_does_not_fit__is_told_by_row_and_column() -> None:
    signature = known("gaps as category").signature

    def errors(*sent: Any) -> list[tuple[str, str]]:
        with pytest.raises(RowsInvalid) as refused:
            to_rows(sent, signature)
        return [(error["field"], error["message"]) for error in refused.value.errors]

    sound = ["KR", 40, 1e9, "pro"]
    assert errors(sound, ["KR", "40", True, None]) == [
        ("inputs[1].age", "a number or null was expected, not a string"),
        ("inputs[1].income", "a number or null was expected, not a boolean"),
        ("inputs[1].plan", "a string was expected, not null: the column is not nullable"),
    ]
    assert errors({"country": 1, "age": [], "income": {}, "plan": 1.5}) == [
        ("inputs[0].country", "a string or null was expected, not a number"),
        ("inputs[0].age", "a number or null was expected, not a list"),
        ("inputs[0].income", "a number or null was expected, not an object"),
        ("inputs[0].plan", "a string was expected, not a number"),
    ]
    assert errors(sound[:3]) == [("inputs[0]", "3 features where 4 were expected")]
    assert errors({"country": "KR", "age": 1, "income": 1, "__proto__": 1}) == [
        ("inputs[0].plan", "missing feature"),
        ("inputs[0].__proto__", "unknown feature"),
    ]


def test_tensors_of_columns__are_rows__or_told_by_column() -> None:
    found, (model, body) = known("boosted"), fitted("boosted")
    columns = found.signature.columns
    assert columns is not None
    table = tables.with_gaps()[:9]
    given = {name: table[name].to_numpy() for name in reversed(table.columns)}
    answer = runtime_of(body, found).predict(from_columns(given, columns))
    np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(table), atol=1e-6)
    for wrong, field in (
        ({name: given[name] for name in ("country", "age")}, "income"),
        (given | {"more": given["age"]}, "more"),
        (given | {"age": given["age"][:3]}, "age"),
        (given | {"age": given["age"][:, None]}, "age"),
        (given | {"plan": np.arange(9)}, "inputs[0].plan"),
    ):
        with pytest.raises(RowsInvalid) as refused:
            from_columns(wrong, columns)
        assert refused.value.errors[0]["field"] == field


def test_table__of_a_pipeline__is_served_over_http(alice: Api) -> None:
    for name, version, model in (("stay", "1", "one-hot that refuses"), ("stay", "2", "boosted")):
        artifact = SimpleUploadedFile("m.skops", fitted(model)[1])
        fields = {"name": name, "version": version, "framework": "sklearn", "artifact": artifact}
        made = alice.upload("/api/v1/models", fields)
        assert made.status == 201, made.content
    assert made["signature"]["columns"][0] == {"name": "country", "type": "string", "nullable": True}
    endpoint_of("stays", "stay@1", deadline_ms=5000)
    path = "/api/v1/endpoints/stays/predict"
    table = tables.full()[:2]
    answer = alice.post(path, {"inputs": [tables.records(table)[0], tables.rows(table)[1]], "unit": "u"})
    assert answer.status == 200, answer.content
    assert answer["outputs"]["predict"] == fitted("one-hot that refuses")[0].predict(table).tolist()
    unknown = alice.post(path, {"inputs": [["XX", 1, 2, "pro"]]})
    assert (unknown.status, unknown.fields()) == (400, ["inputs"])
    assert "unknown categories" in unknown.body["errors"][0]["message"]
    wrong = alice.post(path, {"inputs": [["KR", "1", 2, "pro"]]})
    assert (wrong.status, wrong.fields()) == (400, ["inputs[0].age"])
    body = {"name": "e", "endpoint": "stays", "strategy": "bandit"}
    arms = [{"name": "a", "model": "stay@1"}, {"name": "b", "model": "stay@2"}]
    assert alice.post("/api/v1/experiments", body | {"arms": arms}).status == 201  # it may take more nulls
    given = [{"name": name, "type": "number"} for name in table.columns]
    python = {"name": "stay", "version": "3", "framework": "python", "callable": "tests.callables.zeros"}
    assert alice.post("/api/v1/models", python | {"columns": given}).status == 201
    differs = alice.post(
        "/api/v1/experiments", body | {"name": "f", "arms": [arms[0], {"name": "c", "model": "stay@3"}]}
    )
    assert (differs.status, differs.fields()) == (400, ["arms[1].model"])
    assert "column country is of type number, not string" in differs.body["errors"][0]["message"]
    endpoint_of("gaps", "stay@2", deadline_ms=5000)
    lacking = alice.post("/api/v1/experiments", body | {"name": "g", "endpoint": "gaps", "arms": [arms[1], arms[0]]})
    assert "column country takes no null" in lacking.body["errors"][0]["message"]
    # Both arms were fit for the champion that was, and one takes its seat.
    drafted = alice.post("/api/v1/experiments", body | {"name": "h", "arms": [arms[1], arms[0]], "strategy": "ab"})
    assert drafted.status == 201, drafted.content
    assert alice("PATCH", "/api/v1/endpoints/stays", {"champion": "stay@2"}).status == 200
    begun = alice.post("/api/v1/experiments/h/start")
    assert begun.status == 409, begun.content
    assert "column country takes no null" in begun["detail"]
    gap = alice.post("/api/v1/endpoints/gaps/predict", {"inputs": [[None, None, 3, "pro"]]})
    assert gap.status == 200, gap.content


def test_columns__given_otherwise__are_another_version(alice: Api) -> None:
    body = {"name": "m", "version": "1", "framework": "python", "callable": "tests.callables.lengths"}
    columns = [{"name": "a\nb", "type": "string"}, {"name": "__proto__", "type": "integer", "nullable": True}]
    made = alice.post("/api/v1/models", body | {"columns": columns})
    assert made.status == 201, made.content
    assert made["signature"]["feature_names"] == ["a\nb", "__proto__"]
    assert alice.post("/api/v1/models", body | {"columns": columns}).status == 200
    assert alice.post("/api/v1/models", body | {"columns": columns[:1]}).status == 409
    assert alice.post("/api/v1/models", body).status == 409
    for wrong, field in (
        ([columns[0], columns[0]], "columns[1].name"),
        ([{"name": "", "type": "string"}], "columns[0].name"),
        ([{"name": "a", "type": "text"}], "columns[0].type"),
        ([{"name": "a", "kind": "string"}], "columns[0].kind"),
        ([], "columns"),
    ):
        refused = alice.post("/api/v1/models", body | {"version": "2", "columns": wrong})
        assert (refused.status, refused.fields()) == (400, [field]), refused.content
    endpoint_of("odd", "m@1")
    answer = alice.post(
        "/api/v1/endpoints/odd/predict", {"inputs": [{"a\nb": "x", "__proto__": None}, ["y" * 900_000, 3]]}
    )
    assert answer.status == 200, answer.content[:300]
    for wrong_value in (1.5, "1", True, 2**60):
        refused = alice.post("/api/v1/endpoints/odd/predict", {"inputs": [["x", wrong_value]]})
        assert refused.fields() == ["inputs[0].__proto__"], wrong_value


def test_columns__of_a_callable__are_a_mapping_of_arrays(alice: Api) -> None:
    """A callable gets a mapping of the columns."""
    body = {"name": "typed", "version": "1", "framework": "python", "callable": "tests.callables.lengths"}
    columns = [{"name": "word", "type": "string"}, {"name": "times", "type": "integer"}]
    assert alice.post("/api/v1/models", body | {"columns": columns}).status == 201
    endpoint_of("words", "typed@1")
    answer = alice.post("/api/v1/endpoints/words/predict", {"inputs": [["abc", 2], {"word": "é", "times": 1}]})
    assert answer["outputs"] == {"predict": [6, 1]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input": "filename"}, "reads anything but the text itself"),
        ({"token_pattern": r"(a+)+$"}, "token_pattern is none of those known to read a text once"),
        ({"token_pattern": r"[a-z]+\b"}, "token_pattern is none of those"),
        ({"ngram_range": (1, 1000)}, "more than 10 words at once"),
        ({"vocabulary_": {"a": 0, "b": 2}}, "words have no column each"),
        ({"vocabulary_": {"a": 0, "b": -1}}, "words have no column each"),
        ({"tokenizer": np.sum}, "code"),
    ],
)
def test_reader_of_text__with_a_state_that_is_not_safe__is_refused(changes: dict[str, Any], reason: str) -> None:
    model = make_pipeline(CountVectorizer(token_pattern=r"\w+"), MultinomialNB()).fit(["a b", "b a b"], [0, 1])
    assert examined(skops.io.dumps(model)).signature.columns is not None
    vars(model[0]).update(changes)
    with pytest.raises(ArtifactRefused, match=reason):
        examined(skops.io.dumps(model))


def test_model__of_five_thousand_columns_or_a_hundred_thousand_categories__is_taken() -> None:
    generator = np.random.default_rng(5)
    wide = pd.DataFrame(generator.random((20, 5000)), columns=[f"c{i}" for i in range(5000)])
    found = examined(skops.io.dumps(LogisticRegression().fit(wide, np.arange(20) % 2)))
    assert found.signature.columns is None
    assert found.signature.features == 5000
    many = pd.DataFrame({"id": [f"u{i}" for i in range(100_000)]})
    model = make_pipeline(tables.OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        model.fit(many, np.arange(100_000) % 2)
    body = skops.io.dumps(model)
    found = examined(body)
    assert told(found) == {"id": "string"}
    answer = runtime_of(body, found).predict(to_rows([["u5"], ["nobody"]], found.signature))
    np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(many[5:6])[[0]].repeat(2, 0), atol=0.6)


def test_version__registered_before_there_were_columns__is_published_and_shown(alice: Api) -> None:
    python_model("old", "1", "zeros")
    version = ModelVersion.objects.get()
    del version.signature["columns"]
    version.save(update_fields=["signature"])
    endpoint_of("pages", "old@1")
    assert alice.get("/api/v1/models/old/1")["signature"]["columns"] is None
    assert alice.post("/api/v1/endpoints/pages/predict", {"inputs": [[1, 2]]}).status == 200


def test_category__that_no_row_holds_exactly__is_refused_at_registration() -> None:
    def model(numbers: Any) -> Any:
        return make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(numbers, [0, 1] * 3)

    def columns(numbers: Any) -> dict[str, str]:
        fitted_model = model(numbers)
        names = list(numbers.columns) if isinstance(numbers, pd.DataFrame) else None
        known_so_far = replace(NO_SIGNATURE, features=1, feature_names=names)
        found = with_columns(fitted_model, known_so_far, None, None).columns
        return {column.name: str(column) for column in found or ()}

    beyond = pd.DataFrame({"u": np.arange(2**63, 2**63 + 6, dtype=np.uint64)})
    with pytest.raises(ArtifactRefused, match="'u' has the category 9223372036854775808, which a row holds only as"):
        examined(skops.io.dumps(model(beyond)))
    whole = np.arange(2**53, 2**53 + 6, dtype=np.int64)
    assert columns(pd.DataFrame({"u": whole})) == {"u": "integer"}
    with pytest.raises(ColumnsDiffer, match="category 9007199254740993"):  # an array's rows are doubles
        columns(whole[:, None])
    assert columns(whole[:, None] - 6) == {}
