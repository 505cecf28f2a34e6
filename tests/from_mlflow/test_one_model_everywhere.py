"""One model as a skops file, as ONNX, in MLServer by HTTP and by gRPC, and in MLflow's scoring
server: each answers alike. The servers are those that their projects release.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from django.core.files.uploadedfile import SimpleUploadedFile
from noregret.registry.artifact_storage import artifact_store
from noregret.registry.models import ModelVersion
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.client_environments import REQUIREMENTS, python_of
from tests.conftest import Api, endpoint_of
from tests.from_mlflow.mlflow_server import free_port, plain_environment, running

pytestmark = pytest.mark.django_db(transaction=True)

X, y = load_iris(return_X_y=True)
ROWS = np.concatenate((X[::5], X[:1] + 1e6))
MODELS = "/api/v1/models"


@pytest.fixture(scope="session")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of HTTP and gRPC of an MLServer with the model."""
    python, folder = python_of("mlserver"), tmp_path_factory.mktemp("mlserver")
    subprocess.run(
        [str(python), str(REQUIREMENTS / "train_irises.py")],
        cwd=folder, env=plain_environment(), check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    http, grpc, metrics = free_port(), free_port(), free_port()
    ports = {"MLSERVER_HTTP_PORT": http, "MLSERVER_GRPC_PORT": grpc, "MLSERVER_METRICS_PORT": metrics}
    environment = {"MLSERVER_HOST": "127.0.0.1", **{name: str(port) for name, port in ports.items()}}
    command = [str(python), "-m", "mlserver.cli.main", "start", "."]
    with running(command, f"http://127.0.0.1:{http}/v2/models/irises/ready", folder, **environment):
        yield http, grpc


@pytest.fixture(scope="session")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow's scoring server with the model."""
    python, folder = python_of("mlflow-server"), tmp_path_factory.mktemp("scoring")
    subprocess.run(
        [str(python), str(REQUIREMENTS / "save_irises.py"), json.dumps({"path": str(folder / "model")})],
        cwd=folder, env=plain_environment(), check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    port = free_port()
    command = [
        str(python), "-m", "mlflow", "models", "serve", "-m", str(folder / "model"), "--env-manager", "local",
        "--host", "127.0.0.1", "--port", str(port), "-w", "1",
    ]  # fmt: skip
    path = f"{Path(python).parent}:/usr/bin:/bin"
    with running(command, f"http://127.0.0.1:{port}/ping", folder, PATH=path):
        yield f"http://127.0.0.1:{port}"


def predicted(api: Api, version: str) -> list[Any]:
    endpoint_of(version, f"irises@{version}", deadline_ms=20_000)
    answer = api.post(f"/api/v1/endpoints/{version}/predict", {"inputs": ROWS.tolist()})
    assert answer.status == 200, answer.content
    single = api.post(f"/api/v1/endpoints/{version}/predict", {"inputs": ROWS[:1].tolist()})
    assert single["outputs"]["predict"] == answer["outputs"]["predict"][:1]
    outputs: list[Any] = answer["outputs"]["predict"]
    return outputs


def remote(api: Api, version: str, url: str, protocol: str) -> list[Any]:
    body = {"name": "irises", "version": version, "framework": "http", "url": url, "protocol": protocol}
    made = api.post(MODELS, body | {"sample": ROWS[:3].tolist()})
    assert made.status == 201, made.content
    assert (made["signature"]["features"], made["signature"]["outputs"]) == (4, ["predict"])
    return predicted(api, version)


def test_one_model__as_skops_onnx_open_inference_and_mlflow__answers_alike(
    alice: Api, mlserver: tuple[int, int], scoring: str
) -> None:
    estimator = LogisticRegression(max_iter=1000).fit(X, y)
    expected = estimator.predict(ROWS).tolist()

    def upload(version: str, framework: str, body: bytes) -> list[Any]:
        given = {"name": "irises", "version": version, "framework": framework}
        made = alice.upload(MODELS, given | {"artifact": SimpleUploadedFile("m", body)})
        assert made.status == 201, made.content
        return predicted(alice, version)

    assert upload("skops", "sklearn", skops.io.dumps(estimator)) == expected
    compiled = artifact_store().read(ModelVersion.objects.get().compiled_sha256)
    assert np.asarray(upload("onnx", "onnx", compiled)).ravel().tolist() == expected
    http, grpc = mlserver
    assert remote(alice, "http", f"http://127.0.0.1:{http}/v2/models/irises", "open-inference") == expected
    assert remote(alice, "grpc", f"grpc://127.0.0.1:{grpc}/irises", "open-inference") == expected
    assert remote(alice, "mlflow", scoring, "mlflow") == expected
