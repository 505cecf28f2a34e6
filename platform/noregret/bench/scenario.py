"""What the benchmark measures: a running platform with a bandit over digit models, and the four loads on it."""

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

from noregret.demo.client import Client
from noregret.demo.digits import Digits
from noregret.demo.scenes import register
from noregret.embedded.running import RunningPlatform
from noregret.env import secret_key_file
from serving.tokens import Signer, Token, new_id

from .load import Measured, Request, http, load

ENDPOINT = "bench"
EXPERIMENT = "bench-bandit"
LOADS = ("noop", "predict", "decide", "feedback")
_BODIES = 500


@dataclass(frozen=True, slots=True)
class Scenario:
    """The requests of each load, and what their answers' status must be."""

    host: str
    port: int
    requests: dict[str, Request]
    expected: dict[str, int]

    def run(self, name: str, connections: int, seconds: float) -> Measured:
        return load(
            self.host,
            self.port,
            request=self.requests[name],
            connections=connections,
            seconds=seconds,
            expected=self.expected[name],
        )


def prepare(platform: RunningPlatform, client: Client, key: str, digits: Digits, arms: int) -> Scenario:
    """Register the models, start a bandit with so many arms over them, and make the requests."""
    register(client, digits.candidates)
    versions = itertools.islice(itertools.cycle(candidate.version for candidate in digits.candidates), arms)
    client.post("/api/v1/endpoints", {"name": ENDPOINT, "champion": "digits@1"})
    made = client.post(
        "/api/v1/experiments",
        {
            "name": EXPERIMENT,
            "endpoint": ENDPOINT,
            "strategy": "bandit",
            "arms": [{"name": f"arm-{i}", "model": f"digits@{version}"} for i, version in enumerate(versions)],
            "policy": {"floor": 0.5 / arms},
            "reward": {"window_seconds": 86_400},
            "promotion": {"auto": False},
        },
    )
    client.post(f"/api/v1/experiments/{EXPERIMENT}/start", {})
    parts = urlsplit(platform.url)
    assert parts.hostname is not None
    assert parts.port is not None
    predict = _cycle(
        http(
            "POST",
            f"/api/v1/endpoints/{ENDPOINT}/predict",
            key,
            json.dumps({"unit": f"user-{i}", "inputs": [digits.images[i % len(digits.images)].tolist()]}).encode(),
        )
        for i in range(_BODIES)
    )
    decide = _cycle(
        http("POST", f"/api/v1/endpoints/{ENDPOINT}/decide", key, json.dumps({"unit": f"user-{i}"}).encode())
        for i in range(_BODIES)
    )
    signer = Signer(secret_key_file(platform.data_dir).read_text().strip())
    token = _first_token(client, signer)

    def feedback() -> bytes:
        # Ids of decisions as the service would have made them: each is new to the ledger.
        fresh = signer.sign(Token(new_id(), made["id"], token.arm_id, token.policy_version, token.propensity, True))
        return http("POST", "/api/v1/feedback", key, b'{"decision_id": "%b", "value": 1}' % fresh.encode())

    noop = http("GET", "/healthz", key)
    return Scenario(
        parts.hostname,
        parts.port,
        {"noop": lambda: noop, "predict": predict, "decide": decide, "feedback": feedback},
        {"noop": 200, "predict": 200, "decide": 200, "feedback": 202},
    )


def _cycle(bodies: Iterable[bytes]) -> Callable[[], bytes]:
    endless = itertools.cycle(list(bodies))
    return lambda: next(endless)


def _first_token(client: Client, signer: Signer) -> Token:
    answer = client.post(f"/api/v1/endpoints/{ENDPOINT}/decide", {})
    return signer.read(answer["decision_id"])


def web_memory_mb(platform: RunningPlatform) -> float:
    """Resident memory of the largest web process, in MB (10^6 bytes)."""
    return max(psutil.Process(pid).memory_info().rss for pid in platform.pids("web")) / 1e6
