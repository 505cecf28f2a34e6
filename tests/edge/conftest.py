"""Devices of this test's platform: the Python edge client over real sockets, and the bare HTTP
calls that a forger makes."""

import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from uuid import uuid4
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment
from noregret.registry.frameworks.protocol import Examined
from noregret.registry.frameworks.sklearn import SklearnFramework
from noregret.registry.models import ModelVersion
from noregret.steering.round import learn
from noregret_client.edge import EdgeClient
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skops.io import dumps

from serving.artifacts import supplied
from serving.process import process
from tests.conftest import ACTOR, Api, endpoint_of, python_model, start_experiment

BUNDLE, EVENTS = "/api/v1/endpoints/pages/edge", "/api/v1/edge/events"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def url(platform: None) -> Iterator[str]:
    """Where this process's own application answers."""
    from noregret.wsgi import application

    def whole(environ: dict[str, Any], start: Any) -> Any:
        """A body is whole before the application is called, as our own server has it."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        return application({**environ, "wsgi.input": BytesIO(environ["wsgi.input"].read(length))}, start)

    with make_server("127.0.0.1", 0, whole, _Server, _Quiet) as server:  # type: ignore[type-var]  # its stub wants no mixin
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def device_key(platform: None) -> str:
    return create_key(name="device", scopes=["edge"], actor=ACTOR)[1]


@pytest.fixture
def device(device_key: str) -> Api:
    """Calls with a key that may be public."""
    return Api(device_key)


@pytest.fixture
def client(url: str, device_key: str, tmp_path: Path) -> Iterator[Callable[..., EdgeClient]]:
    """Makes an edge client of an endpoint, in a folder of its own by name."""
    opened: list[EdgeClient] = []

    def make(name: str = "device", endpoint: str = "pages", **options: Any) -> EdgeClient:
        opened.append(EdgeClient(endpoint, tmp_path / name, url, device_key, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


X, Y = load_iris(return_X_y=True)
_INSPECTED: dict[str, Examined] = {}
"""By version: looked at once, and in this process, for a confined one takes seconds to start."""


def iris_model(version: str, model: Any) -> None:
    artifact = dumps(model.fit(X, Y))
    if version not in _INSPECTED:
        _INSPECTED[version] = SklearnFramework().inspect(artifact, {"trusted": [], "sample": X[:20].tolist()})
    examined = _INSPECTED[version]
    assert examined.compiled is not None
    ModelVersion.objects.create(
        name="iris",
        version=version,
        framework="sklearn",
        runtime="onnx",
        sha256=supplied().put(artifact),
        compiled_sha256=supplied().put(examined.compiled),
        signature=examined.signature.to_dict(),
    )


@pytest.fixture
def irises(platform: None) -> Experiment:
    """On `irises` three arms whose units keep them: a linear model, a tree, and one that no device
    can run."""
    iris_model("linear", make_pipeline(StandardScaler(), LogisticRegression()))
    iris_model("tree", DecisionTreeClassifier(random_state=0))
    python_model("iris", "code", "sums")
    endpoint_of("irises", "iris@linear")
    experiment = start_experiment(
        {
            "name": "e",
            "endpoint": "irises",
            "strategy": "bandit",
            "policy": {"name": "thompson", "burn_in": 10},
            "arms": [{"name": name, "model": f"iris@{name}"} for name in ("linear", "tree", "code")],
            "sticky": True,
            "edge_exclusions": True,
        }
    )
    served()
    return experiment


def served() -> None:
    process().store.refresh()


def drained(experiment: Experiment) -> Experiment:
    learn(experiment.endpoint_id)
    return Experiment.objects.select_related("endpoint__champion", "promoted_arm").get(pk=experiment.pk)


def decision(bundle: dict[str, Any], arm: int = 0, **changes: Any) -> dict[str, Any]:
    """A decision as an honest device tells it, with whatever is changed."""
    chosen = bundle["arms"][arm]
    return {
        "type": "decision",
        "id": str(uuid4()),
        "arm": chosen["name"],
        "propensity": chosen["propensity"],
        "decided_at": timezone.now().isoformat(),
        **changes,
    }


def reward(told: dict[str, Any], value: float = 1, **changes: Any) -> dict[str, Any]:
    at = timezone.now().isoformat()
    return {"type": "reward", "decision_id": told["id"], "value": value, "occurred_at": at, **changes}


def tell(device: Api, bundle: dict[str, Any], *events: dict[str, Any]) -> list[str]:
    answer = device.post(EVENTS, {"receipt": bundle["receipt"], "events": list(events)})
    assert answer.status == 207, answer.body
    return [result["status"] for result in answer["results"]]


def why(device: Api, bundle: dict[str, Any], event: dict[str, Any]) -> tuple[str, str]:
    """(status, field) of one event."""
    answer = device.post(EVENTS, {"receipt": bundle["receipt"], "events": [event]})
    assert answer.status == 207, answer.body
    (result,) = answer["results"]
    return result["status"], (result["error"] or {}).get("field", "")
