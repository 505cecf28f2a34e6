"""Rows that a model says it can't take are the caller's fault, told as such; and no compiled form
answers what the original refuses."""

from typing import Any

import numpy as np
import pytest
import skops.io
from django.core.files.uploadedfile import SimpleUploadedFile
from noregret.registry.compiling import never_equal
from noregret.steering.round import learn
from sklearn.decomposition import KernelPCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from serving.models import Decision
from serving.process import process
from tests.conftest import Api, endpoint_of, start_experiment

ROWS = np.array([[float(i % 5), float(i % 3)] for i in range(60)])
LABELS = (ROWS[:, 0] > 2).astype(int)


def register(api: Api, version: str, model: Any) -> bool:
    """Registered as m@version; was it compiled?"""
    file = SimpleUploadedFile("m.skops", skops.io.dumps(model))
    answer = api.upload("/api/v1/models", {"name": "m", "version": version, "framework": "sklearn", "artifact": file})
    assert answer.status == 201, answer.content
    return bool(answer["compiled"])


def strict(encoder: Any) -> Any:
    return make_pipeline(encoder, DecisionTreeClassifier(random_state=0)).fit(ROWS, LABELS)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()])
@pytest.mark.parametrize("row", [[1.5, 2.0], [9.0, 0.0], [4.999, 1.0], [-0.5, 0.0]])
def test_unknown_category__is_a_400_in_the_models_own_words(alice: Api, encoder: Any, row: list[float]) -> None:
    assert not register(alice, "1", strict(encoder))
    endpoint_of("m", "m@1")
    assert alice.post("/api/v1/endpoints/m/predict", {"inputs": [[1.0, 2.0]]}).status == 200
    answer = alice.post("/api/v1/endpoints/m/predict", {"inputs": [row]})
    assert (answer.status, answer.fields()) == (400, ["inputs"])
    assert "unknown categories" in answer["errors"][0]["message"]


def test_rows_that_every_arm_refuses__are_no_decision_and_no_failure(alice: Api) -> None:
    for version in "12":
        register(alice, version, strict(OneHotEncoder()))
    endpoint_of("m", "m@1")
    arms = [{"name": f"v{version}", "model": f"m@{version}"} for version in "12"]
    experiment = start_experiment({"name": "e", "endpoint": "m", "strategy": "ab", "arms": arms})
    process().store.refresh()
    for i in range(30):
        assert alice.post("/api/v1/endpoints/m/predict", {"inputs": [[9.0, 9.0]], "unit": f"u{i}"}).status == 400
    live = process().store.endpoint("m")
    assert live is not None
    assert [arm.breaker.state for arm in live.arms] == ["closed", "closed"]
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 0


def test_parts_whose_compiled_form_differs_somewhere__are_known() -> None:
    differ = [
        Normalizer(),
        KernelPCA(),
        OneHotEncoder(),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    ]
    assert all(never_equal(part) for part in differ)
    assert never_equal(OneHotEncoder(handle_unknown="ignore")) is None
    assert never_equal(LogisticRegression()) is None


def test_normalizer__row_of_zeros__answers_as_the_original(alice: Api) -> None:
    rows = np.vstack([np.random.default_rng(1).integers(0, 2, (200, 4)), np.zeros((3, 4))]).astype(float)
    model = make_pipeline(Normalizer(), LogisticRegression()).fit(rows, rows[:, 0].astype(int))
    assert not register(alice, "1", model)
    endpoint_of("m", "m@1")
    answer = alice.post("/api/v1/endpoints/m/predict", {"inputs": [[0.0] * 4, [1.0, 0.0, 1.0, 0.0]]})
    assert answer["outputs"]["predict"] == model.predict([[0.0] * 4, [1.0, 0.0, 1.0, 0.0]]).tolist()
