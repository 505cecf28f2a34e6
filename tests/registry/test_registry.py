"""Real scikit-learn models through upload, inspection, compilation and serving; hostile ones
stopped on the way."""

import io
import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from django.core.files.uploadedfile import SimpleUploadedFile
from noregret.registry import inspect_artifact, signature, skops_file
from noregret.registry.errors import ArtifactRefused
from noregret.registry.inspection import _ending
from noregret.registry.models import ModelVersion
from sklearn.cluster import BisectingKMeans, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.manifold import Isomap
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from serving.api import documents
from serving.artifacts import ArtifactStore
from serving.problems import Problem
from serving.runtimes.estimator_state import parts
from serving.runtimes.protocol import Resources
from serving.runtimes.rows import RowsInvalid, to_array
from serving.runtimes.runtime import ModelError
from serving.runtimes.sklearn import SklearnModel, SklearnRuntime, by_row
from tests.conftest import Api, endpoint_of
from tests.registry.inspected import SKLEARN, inspect

DIGITS, DIGIT = load_digits(return_X_y=True)
IRIS, SPECIES = load_iris(return_X_y=True)
DIABETES, PROGRESSION = load_diabetes(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def named(model: Any) -> Any:
    model.feature_names_in_ = np.array(["sl", "sw", "pl", "pw"], dtype=object)
    return model


MODELS: dict[str, tuple[Any, Any, str]] = {
    "tree": (DecisionTreeClassifier(max_depth=5, random_state=0).fit(DIGITS, DIGIT), DIGITS, "onnx"),
    "bayes": (GaussianNB().fit(DIGITS, DIGIT), DIGITS, "onnx"),
    "logistic": (make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(DIGITS, DIGIT), DIGITS, "onnx"),
    "forest": (RandomForestClassifier(20, random_state=0).fit(IRIS, NAMES[SPECIES]), IRIS, "onnx"),
    "ridge": (Ridge().fit(DIABETES, PROGRESSION), DIABETES, "onnx"),
    "boolean": (LogisticRegression(max_iter=500).fit(IRIS, SPECIES == 1), IRIS, "sklearn"),
    "function": (make_pipeline(FunctionTransformer(np.log1p), GaussianNB()).fit(IRIS, SPECIES), IRIS, "sklearn"),
    # Served as they were trained, with parts that were built anew: splines, a search tree, a tree
    # of centres.
    "splines": (
        make_pipeline(SplineTransformer(), LogisticRegression(max_iter=500)).fit(IRIS, SPECIES),
        IRIS,
        "sklearn",
    ),
    "embedded": (
        make_pipeline(Isomap(n_neighbors=70), LogisticRegression(max_iter=500)).fit(IRIS, SPECIES),
        IRIS,
        "sklearn",
    ),
    "clusters": (BisectingKMeans(4, random_state=0).fit(IRIS), IRIS, "sklearn"),
    "boosting": (GradientBoostingClassifier(n_estimators=5, random_state=0).fit(IRIS, SPECIES), IRIS, "onnx"),
}


def upload(api: Api, body: bytes, version: str = "1", **fields: Any) -> Any:
    artifact = SimpleUploadedFile("model.skops", body)
    return api.upload(
        "/api/v1/models", {"name": "m", "version": version, "framework": "sklearn", "artifact": artifact} | fields
    )


@pytest.mark.parametrize("name", MODELS)
def test_model__registered_and_served__answers_as_the_original(alice: Api, name: str) -> None:
    model, rows, runtime = MODELS[name]
    made = upload(alice, skops.io.dumps(model))
    assert made.status == 201, made.content
    assert made["compiled"] is (runtime == "onnx"), made["compile_note"]
    assert ModelVersion.objects.get().runtime == runtime
    assert made["signature"]["features"] == rows.shape[1]
    endpoint_of("m", "m@1")
    answer = alice.post("/api/v1/endpoints/m/predict", {"inputs": rows[:40].tolist()})
    assert answer.status == 200, answer.content
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.predict(rows[:40])
        if expected.dtype.kind == "f":
            assert np.allclose(answer["outputs"]["predict"], expected, rtol=1e-5)
        else:
            assert answer["outputs"]["predict"] == expected.tolist()
        if "predict_proba" in made["signature"]["outputs"]:
            assert np.allclose(answer["outputs"]["predict_proba"], model.predict_proba(rows[:40]), atol=1e-5)
    wrong = alice.post("/api/v1/endpoints/m/predict", {"inputs": [[1.0]]})
    assert (wrong.status, wrong.fields()) == (400, ["inputs[0]"])


def test_model__with_feature_names__takes_objects_in_any_order(alice: Api) -> None:
    model = named(LogisticRegression(max_iter=500).fit(IRIS, SPECIES))
    assert upload(alice, skops.io.dumps(model))["signature"]["feature_names"] == ["sl", "sw", "pl", "pw"]
    endpoint_of("m", "m@1")
    row = dict(zip(["pw", "pl", "sw", "sl"], IRIS[60][::-1].tolist(), strict=True))
    answer = alice.post("/api/v1/endpoints/m/predict", {"inputs": [row, IRIS[60].tolist()]})
    assert answer["outputs"]["predict"] == [1, 1]
    wrong = alice.post("/api/v1/endpoints/m/predict", {"inputs": [{"sl": 1.0, "sw": 1.0, "pl": 1.0, "colour": 1.0}]})
    assert wrong.fields() == ["inputs[0].pw", "inputs[0].colour"]


def test_upload__same_bytes_again_and_other_bytes__same_version_and_conflict(alice: Api) -> None:
    body = skops.io.dumps(MODELS["bayes"][0])
    assert upload(alice, body).status == 201
    assert upload(alice, body).status == 200
    assert upload(alice, skops.io.dumps(MODELS["tree"][0])).status == 409


class Bomb:
    def __reduce__(self) -> Any:
        return (open, ("/tmp/noregret-was-here", "w"))  # noqa: S108 - must never be made


def hostile() -> dict[str, bytes]:
    joblibbed = io.BytesIO()
    joblib.dump(Bomb(), joblibbed)
    compressed = io.BytesIO()
    joblib.dump(MODELS["bayes"][0], compressed, compress=3)
    bomb, escape, empty = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr("0.npy", b"\0" * (300 << 20))
    with zipfile.ZipFile(escape, "w") as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr("../../escape", "x")
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr(
            "schema.json", json.dumps({"__class__": "Popen", "__module__": "subprocess", "__loader__": "ObjectNode"})
        )
    return {
        "pickle": pickle.dumps(Bomb()),
        "pickle 0": pickle.dumps(Bomb(), protocol=0),
        "joblib": joblibbed.getvalue(),
        "joblib compressed": compressed.getvalue(),
        "zip bomb": bomb.getvalue(),
        "path": escape.getvalue(),
        "other class": empty.getvalue(),
        "text": b"hello",
    }


@pytest.mark.parametrize(
    "kind", ["pickle", "pickle 0", "joblib", "joblib compressed", "zip bomb", "path", "other class", "text"]
)
def test_upload__hostile__is_refused_with_the_reason_and_runs_nothing(alice: Api, kind: str) -> None:
    import pathlib

    answer = upload(alice, hostile()[kind])
    assert (answer.status, answer["type"]) == (422, "/problems/artifact-refused"), answer.content
    assert len(answer["detail"]) > 10
    assert ModelVersion.objects.count() == 0
    assert not pathlib.Path("/tmp/noregret-was-here").exists()  # noqa: S108


def test_upload__dangerous_function_in_a_skops_file__is_refused() -> None:
    import os

    model = make_pipeline(FunctionTransformer(os.system), GaussianNB())
    model[1].fit(IRIS, SPECIES)
    with pytest.raises(ArtifactRefused, match="not allowed"):
        inspect(skops.io.dumps(model))


def test_upload__tree_whose_nodes_lead_nowhere__is_refused() -> None:
    model = DecisionTreeClassifier(max_depth=3, random_state=0).fit(IRIS, SPECIES)
    state = model.tree_.__getstate__()
    state["nodes"]["left_child"][0] = 10_000
    model.tree_.__setstate__(state)
    with pytest.raises(ArtifactRefused, match="lead nowhere"):
        inspect(skops.io.dumps(model))


def test_upload__not_fitted_or_no_model__is_refused() -> None:
    with pytest.raises(ArtifactRefused, match="fitted"):
        inspect(skops.io.dumps(GaussianNB()))
    with pytest.raises(ArtifactRefused, match="no predict"):
        inspect(skops.io.dumps(StandardScaler().fit(IRIS)))


def test_upload__sample_of_another_shape__is_refused(alice: Api) -> None:
    answer = upload(alice, skops.io.dumps(MODELS["bayes"][0]), sample="[[1, 2]]")
    assert answer.status == 422
    assert upload(alice, skops.io.dumps(MODELS["bayes"][0]), sample="[1").fields() == ["sample"]


def test_inspecting_process__limits__are_in_force() -> None:
    code = (
        "from noregret.registry.inspect_artifact import limit; limit()\n"
        "try:\n    held = bytearray(5 << 30)\n"
        "except MemoryError:\n    print('refused')"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.strip() == "refused"
    assert inspect_artifact.CPU_SECONDS <= 60


ENDINGS = {
    "signal": ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed the process that read it (SIGSEGV)"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "was killed, as happens where memory runs out"),
    "time": ("os.kill(os.getpid(), signal.SIGXCPU)", "took longer than 60 s of computing"),
    "memory": ("sys.exit('MemoryError')", "needs more than 4 GiB of memory"),
    "other": ("sys.exit('ValueError: a reason')", "failed with exit code 1: ValueError: a reason"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_inspecting_process__that_ends_without_an_answer__is_told_as_it_ended(ending: str) -> None:
    code, words = ENDINGS[ending]
    ended = subprocess.run(
        [sys.executable, "-c", f"import os, signal, sys; {code}"], capture_output=True, timeout=60, check=False
    )
    assert words in _ending(ended.returncode, ended.stderr)


def test_inspecting_process__whose_model_raises__is_told_what_it_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_it(folder: Path) -> Any:
        raise OverflowError("Range exceeds valid bounds")

    monkeypatch.setattr(inspect_artifact, "inspect", raise_it)
    monkeypatch.setattr(inspect_artifact, "limit", lambda: None)
    monkeypatch.setattr(sys, "argv", ["inspect_artifact", str(tmp_path)])
    inspect_artifact.main()
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer == {"refused": "could not be inspected: OverflowError: Range exceeds valid bounds"}


def several_outputs() -> Any:
    labels = np.column_stack((SPECIES, SPECIES == 1)).astype(int)
    return RandomForestClassifier(5, random_state=0).fit(IRIS, labels)


def test_model__with_several_outputs__answers_a_list_a_row(alice: Api) -> None:
    model = several_outputs()
    made = upload(alice, skops.io.dumps(model))
    assert made.status == 201, made.content
    assert (made["compiled"], made["signature"]["classes"]) == (False, [[0, 1, 2], [0, 1]])
    endpoint_of("m", "m@1")
    answer = alice.post("/api/v1/endpoints/m/predict", {"inputs": IRIS[48:53].tolist()})
    assert answer.status == 200, answer.content
    outputs = answer["outputs"]
    assert outputs["predict"] == model.predict(IRIS[48:53]).astype(int).tolist()
    first, second = model.predict_proba(IRIS[48:53])
    assert outputs["predict_proba"] == [[first[i].tolist(), second[i].tolist()] for i in range(5)]


def test_answer__of_several_outputs__is_turned_into_rows() -> None:
    answer = [np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])]
    rows = [[[0.25, 0.75], [0.5, 0.25, 0.25]], [[1.0, 0.0], [0.0, 0.0, 1.0]]]
    assert by_row("predict_proba", answer, 2) == rows
    with pytest.raises(ModelError, match="not finite"):
        by_row("predict_proba", [np.array([[np.nan]])], 1)
    with pytest.raises(ModelError, match="for 3 rows"):
        by_row("predict", np.zeros(2), 3)


def test_signature__of_models_that_do_not_say_their_width__is_found_where_it_can_be() -> None:
    steps = Pipeline([("nothing", "passthrough"), ("model", GaussianNB())]).fit(IRIS, SPECIES)
    assert signature.read(steps).features == 4
    assert signature.read(IsotonicRegression().fit(IRIS[:, 0], PROGRESSION[:150])).features == 1
    baseline = DummyRegressor().fit(IRIS, SPECIES)
    del baseline.n_features_in_
    assert signature.read(baseline).features is None


def test_rows__for_a_model_of_any_width__are_held_against_the_first() -> None:
    with pytest.raises(RowsInvalid) as told:
        to_array([[1.0], [2.0, 3.0]], None, None)
    assert told.value.errors == [{"field": "inputs[1]", "message": "2 features where the first row has 1"}]
    with pytest.raises(RowsInvalid, match="without features"):
        to_array([[], []], None, None)


WORDS: dict[str, tuple[Any, str]] = {
    "not fitted": (GaussianNB(), "the GaussianNB is not fitted"),
    "no predict": (StandardScaler().fit(IRIS), "holds a StandardScaler, which has no predict"),
    "predict by option": (LocalOutlierFactor().fit(IRIS), "predict is not available when novelty=False"),
    "dictionaries": (
        make_pipeline(DictVectorizer(), GaussianNB()),
        "holds a DictVectorizer, which takes dictionaries, and a row here is a list of numbers and texts",
    ),
    "function": (
        GridSearchCV(make_pipeline(FunctionTransformer(upload), GaussianNB()), {}, refit=False),
        "test_registry.upload",
    ),
}


@pytest.mark.parametrize("cause", WORDS)
def test_refusal__names_its_true_cause(tmp_path: Path, cause: str) -> None:
    model, words = WORDS[cause]
    (tmp_path / "artifact").write_bytes(skops.io.dumps(model))
    (tmp_path / "request.json").write_text(
        json.dumps({"framework": SKLEARN, "options": {"trusted": [], "sample": None}})
    )
    assert words in inspect_artifact.inspect(tmp_path)["refused"]


def test_upload__sample_that_is_no_table__is_told_by_its_row(alice: Api) -> None:
    uneven = upload(alice, skops.io.dumps(MODELS["bayes"][0]), sample="[[1, 2], [3]]")
    assert uneven["errors"] == [{"field": "sample[1]", "message": "1 values where the first row has 2"}]
    assert upload(alice, skops.io.dumps(MODELS["bayes"][0]), sample="[]").fields() == ["sample"]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ('{"inputs": [{"sl": 1, "sw": "wide", "pl": "x"}]}', "inputs[0].sw", "expected `float`, got `str`"),
        ('{"inputs": [[1, 2], {"sl": 1, "sw": 2, "pl": null}]}', "inputs[1].pl", "expected `float`, got `null`"),
        ('{"inputs": [[1]], "context": {"a": 1, "b.c": [1]}}', "context.b.c", "got `array`"),
        ('{"inputs": [[1]], "context": {"a": 1e3, "b": 99999999999999999999}}', "context.b", ""),
        ('{"inputs": [[1, "2"]]}', "inputs[0][1]", "expected `float`, got `str`"),
        # What comes after the wrong value is no JSON either: the mapping is all that can be told.
        ('{"inputs": [{"sl": "wide"}', "inputs[0]", "expected `float`, got `str`"),
    ],
)
def test_predict__value_of_a_wrong_type__is_told_by_its_name(body: str, field: str, message: str) -> None:
    with pytest.raises(Problem) as told:
        documents.PREDICT.decode(body.encode())
    assert told.value.errors[0]["field"] == field
    assert message in told.value.errors[0]["message"]


def test_model__fitted_on_a_table_with_names__takes_rows_without(tmp_path: Path) -> None:
    steps = [("scaled", StandardScaler(), [2, 0]), ("ranked", QuantileTransformer(n_quantiles=20), slice(1, 2))]
    model = make_pipeline(ColumnTransformer(steps, remainder="passthrough"), LogisticRegression()).fit(IRIS, SPECIES)
    expected = model.predict_proba(IRIS)
    columns = named(model.steps[0][1])
    # As it is after fitting on a table: columns are named, and scikit-learn takes no other kind of
    # table any more.
    by_name = {"scaled": ["pl", "sl"], "ranked": ["sw"], "remainder": ["pw"]}
    columns.transformers_ = [(name, step, by_name[name]) for name, step, _ in columns.transformers_]
    with pytest.raises(ValueError, match="dataframe"):
        model.predict(IRIS)
    assert np.allclose(skops_file.load(skops.io.dumps(model), ()).predict_proba(IRIS), expected)


def test_model__served_as_it_was_trained__starts_no_threads_of_its_own(tmp_path: Path, settings: Any) -> None:
    model = RandomForestClassifier(2, random_state=0).fit(IRIS, SPECIES).set_params(n_jobs=1_000_000)
    store = ArtifactStore(tmp_path)
    sha256 = store.put(skops.io.dumps(model))
    described = SklearnModel(model="m@1", framework="sklearn", sha256=sha256, outputs=["predict"])
    runtime = described.load(Resources(store, settings))
    assert isinstance(runtime, SklearnRuntime)
    assert {part.n_jobs for part in parts(runtime._estimator) if hasattr(part, "n_jobs")} == {None}
    assert runtime.predict(IRIS[:2])["predict"] == [0, 0]
    clusters = KMeans(2, n_init=1, random_state=0).fit(IRIS)
    clusters._n_threads = 1_000_000
    assert skops_file.load(skops.io.dumps(clusters), ())._n_threads == 1


def test_payload_with_a_number_that_would_be_served_as_another__is_refused_with_its_place(alice: Api) -> None:
    fields = {"name": "page", "version": "1", "framework": "static"}
    wrong = {
        "[18446744073709551617]": "payload[0]",
        '{"a":{"id":-9223372036854775809}}': "payload.a.id",
        "-0.0": "payload",
    }
    for text, place in wrong.items():
        refused = alice.post("/api/v1/models", fields | {"payload": json.loads(text)})
        assert (refused.status, refused.fields()) == (400, [place])
    payload = {"a": [2**64 - 1, -(2**63), 1e30, 0, 0.1, 2**53 + 1], "b": True}
    assert alice.post("/api/v1/models", fields | {"payload": payload}).status == 201
    endpoint_of("page", "page@1")
    assert alice.post("/api/v1/endpoints/page/decide", {"unit": "u"})["payload"] == payload
