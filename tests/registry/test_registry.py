"""Real scikit-learn models through upload, inspection, compilation and serving; hostile ones stopped on the way."""

import io
import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from django.core.files.uploadedfile import SimpleUploadedFile
from noregret.registry import inspect_artifact
from noregret.registry.errors import ArtifactRefused
from noregret.registry.inspection import inspect
from noregret.registry.models import ModelVersion
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.conftest import Api, endpoint_of

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
        inspect(skops.io.dumps(model), trusted=(), sample=None)


def test_upload__tree_whose_nodes_lead_nowhere__is_refused() -> None:
    model = DecisionTreeClassifier(max_depth=3, random_state=0).fit(IRIS, SPECIES)
    state = model.tree_.__getstate__()
    state["nodes"]["left_child"][0] = 10_000
    model.tree_.__setstate__(state)
    with pytest.raises(ArtifactRefused, match="lead nowhere"):
        inspect(skops.io.dumps(model), trusted=(), sample=None)


def test_upload__not_fitted_or_no_model__is_refused() -> None:
    with pytest.raises(ArtifactRefused, match="fitted"):
        inspect(skops.io.dumps(GaussianNB()), trusted=(), sample=None)
    with pytest.raises(ArtifactRefused, match="no predict"):
        inspect(skops.io.dumps(StandardScaler().fit(IRIS)), trusted=(), sample=None)


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
