"""One server of MLflow for the session, started by the first test that asks for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.from_mlflow.mlflow_server import mlflow_server


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Any]]]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def mlflow(logged: tuple[str, dict[str, Any]], settings: Any) -> dict[str, Any]:
    """What was logged in the server that the settings name."""
    settings.MLFLOW_URL = logged[0]
    return logged[1] | {"url": logged[0]}
