"""What is loaded: a running platform with a bandit over small models, and the requests of each
load."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from noregret.demo.client import Client
from noregret.embedded.running import RunningPlatform
from noregret.env import secret_key_file
from serving.tokens import Signer, Token, new_id

from .irises import Irises, artifact
from .load import Target, http

ENDPOINT = "bench"
EXPERIMENT = "bench-bandit"
MANY_ARMS = 100
BATCH = 100
WINDOW_SECONDS = 600
_BODIES = 500


@dataclass(frozen=True, slots=True)
class Scenario:
    """The targets of the loads by name, and who may call what. `experiment_id` is EXPERIMENT's."""

    host: str
    port: int
    key: str
    experiment_id: int
    targets: dict[str, Target]


def register_models(client: Client, data: Irises, numbers: Iterable[int]) -> None:
    """Register irises@1, irises@2, ..."""
    for number in numbers:
        definition = {"name": "irises", "version": str(number), "framework": "sklearn"}
        client.register(definition, artifact(data, number))


def prepare(platform: RunningPlatform, client: Client, key: str, data: Irises, arms: int) -> Scenario:
    """Register three models, start a bandit of `arms` arms and one of 100, and make the
    requests."""
    register_models(client, data, (1, 2, 3))
    experiment_id = _bandit(client, ENDPOINT, EXPERIMENT, arms)
    many = f"{ENDPOINT}-{MANY_ARMS}"
    _bandit(client, many, f"{EXPERIMENT}-{MANY_ARMS}", MANY_ARMS)
    parts = urlsplit(platform.url)
    assert parts.hostname is not None
    assert parts.port is not None
    host, port = parts.hostname, parts.port
    inputs = [[data.rows[i % len(data.rows)].tolist()] for i in range(_BODIES)]

    def call(endpoint: str, action: str, bodies: Iterable[Mapping[str, object]]) -> Target:
        path = f"/api/v1/endpoints/{endpoint}/{action}"
        return Target(host, port, _cycle(http("POST", path, key, json.dumps(body).encode()) for body in bodies))

    units = [{"unit": f"user-{i}"} for i in range(_BODIES)]
    asked = [{**unit, "inputs": rows} for unit, rows in zip(units, inputs, strict=True)]
    rewarded = _Rewards(client, platform, experiment_id, key)
    ping = http("GET", "/api/v1/ping")
    return Scenario(
        host,
        port,
        key,
        experiment_id,
        {
            "wsgi": Target(host, port, lambda: ping),
            "predict": call(ENDPOINT, "predict", asked),
            "decide": call(ENDPOINT, "decide", units),
            "feedback": Target(host, port, rewarded.one, expected=202),
            "feedback_batch": Target(host, port, rewarded.batch, expected=207),
            "predict_100_arms": call(many, "predict", asked),
        },
    )


def _bandit(client: Client, endpoint: str, experiment: str, arms: int) -> int:
    """An endpoint with a running bandit; the experiment's number."""
    versions = itertools.islice(itertools.cycle((1, 2, 3)), arms)
    client.post("/api/v1/endpoints", {"name": endpoint, "champion": "irises@1"})
    created = client.post(
        "/api/v1/experiments",
        {
            "name": experiment,
            "endpoint": endpoint,
            "strategy": "bandit",
            "arms": [{"name": f"arm-{i}", "model": f"irises@{version}"} for i, version in enumerate(versions)],
            "policy": {"floor": 0.5 / arms},
            "reward": {"window_seconds": WINDOW_SECONDS},
            "promotion": {"auto": False},
        },
    )
    client.post(f"/api/v1/experiments/{experiment}/start", {})
    return int(created["id"])


def _cycle(bodies: Iterable[bytes]) -> Callable[[], bytes]:
    endless = itertools.cycle(list(bodies))
    return lambda: next(endless)


class _Rewards:
    """Feedback on decisions that have none yet: their ids are signed as the service signs them."""

    def __init__(self, client: Client, platform: RunningPlatform, experiment_id: int, key: str) -> None:
        self._signer = Signer(secret_key_file(platform.data_dir).read_text().strip())
        self._token = self._signer.read(client.post(f"/api/v1/endpoints/{ENDPOINT}/decide", {})["decision_id"])
        self._experiment_id = experiment_id
        self._key = key

    def _item(self) -> bytes:
        token = self._token
        fresh = Token(new_id(), self._experiment_id, token.arm_id, token.policy_version, token.propensity, True)
        return b'{"decision_id": "%b", "value": 1}' % self._signer.sign(fresh).encode()

    def one(self) -> bytes:
        return http("POST", "/api/v1/feedback", self._key, self._item())

    def batch(self) -> bytes:
        items = b", ".join(self._item() for _ in range(BATCH))
        return http("POST", "/api/v1/feedback", self._key, b'{"feedback": [%b]}' % items)


def web_memory_mb(platform: RunningPlatform) -> float:
    """Resident memory of the largest web process, in MB (10^6 bytes)."""
    return max(psutil.Process(pid).memory_info().rss for pid in platform.pids("web")) / 1e6


def all_but_web(platform: RunningPlatform) -> list[int]:
    """Every process of the platform that answers no requests."""
    if platform.process is None:
        return []
    top = psutil.Process(platform.process.pid)
    web = set(platform.pids("web"))
    return [top.pid, *(child.pid for child in top.children(recursive=True) if child.pid not in web)]
