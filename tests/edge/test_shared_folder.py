"""Several endpoints, and several processes, in one folder of a device: none takes away what another
runs."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from noregret.experiments.models import Experiment
from noregret_client.edge import EdgeClient
from sklearn.tree import DecisionTreeClassifier

from tests.conftest import Api, endpoint_of
from tests.edge.conftest import X, iris_model, served

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[], set[str]]:
    return lambda: {path.name for path in (tmp_path / "device" / "models").iterdir()}


@pytest.fixture
def stumps(platform: None) -> str:
    """Another endpoint whose model needs a file."""
    iris_model("stump", DecisionTreeClassifier(max_depth=1, random_state=0))
    endpoint_of("stumps", "iris@stump")
    served()
    return "stumps"


def runs(edge: EdgeClient) -> set[str]:
    return {edge.predict(X[:1]).model for _ in range(30)}


def test_endpoints__of_one_folder__keep_each_others_files(
    client: Any, irises: Experiment, stumps: str, alice: Api, files: Callable[[], set[str]]
) -> None:
    one, other = client(endpoint="irises"), client(endpoint=stumps)
    one.refresh()
    trees = files()
    other.refresh()
    assert len(files()) == 2
    assert runs(one) == {"iris@linear", "iris@tree"}
    assert runs(other) == {"iris@stump"}
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    served()
    assert one.refresh()  # it names no file any more
    assert len(files()) == 1
    assert not files() & trees
    assert runs(other) == {"iris@stump"}


def test_files__that_are_fetched_and_not_named_yet__stay_beside_another_refresh(
    client: Any, irises: Experiment, stumps: str, files: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, other = client(endpoint="irises"), client(endpoint=stumps)
    put, beside = slow._state.put, threading.Thread(target=other.refresh)

    def put_slowly(values: dict[str, bytes]) -> None:
        if "bundle" in values:
            beside.start()
            beside.join(1.0)
        put(values)

    monkeypatch.setattr(slow._state, "put", put_slowly)
    slow.refresh()
    beside.join(30.0)
    assert len(files()) == 2
    assert runs(slow) == {"iris@linear", "iris@tree"}
    assert runs(other) == {"iris@stump"}


def test_clients__that_refresh_one_folder_at_once__all_have_the_file(
    client: Any, irises: Experiment, files: Callable[[], set[str]]
) -> None:
    clients = [client(endpoint="irises") for _ in range(4)]
    failures: list[Exception] = []

    def refresh(edge: EdgeClient) -> None:
        try:
            edge.refresh()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=refresh, args=(edge,)) for edge in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert not failures
    assert len(files()) == 1
    assert all(runs(edge) == {"iris@linear", "iris@tree"} for edge in clients)


def test_state__of_another_endpoint_that_cant_be_read__costs_no_file(
    client: Any, irises: Experiment, tmp_path: Path, alice: Api, files: Callable[[], set[str]]
) -> None:
    edge = client(endpoint="irises")
    edge.refresh()
    (tmp_path / "device" / "another.sqlite").write_bytes(b"garbage" * 900)
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    served()
    assert edge.refresh()
    assert len(files()) == 1
