"""What the digits page reads with: three models of handwritten digits behind one endpoint, in a
bandit that promotes nobody, for it is to be played with."""

import time

import httpx

from . import digits
from .client import Client

ENDPOINT = "handwriting"
EXPERIMENT = f"{ENDPOINT}-1"
_SEED = 0
_SERVED_SECONDS = 60.0
_POLL_SECONDS = 0.2
# What is there already stays as it is.
_MADE_OR_THERE = (200, 201, 409)


class NotServed(Exception):
    """What was asked for does not come."""


def make(client: Client) -> None:
    """Register, create and start, unless it is there. Raises CallFailed."""
    there = client.call("GET", f"/api/v1/experiments/{EXPERIMENT}", ok=(200, 404))
    if there.get("name") != EXPERIMENT:
        _create(client)
    client.call("POST", f"/api/v1/experiments/{EXPERIMENT}/start", ok=_MADE_OR_THERE, json={"reason": "digits page"})


def _create(client: Client) -> None:
    candidates = digits.load(_SEED).candidates
    for candidate in candidates:
        definition = {"name": ENDPOINT, "version": candidate.version, "framework": "sklearn"}
        client.register(definition, candidate.artifact, ok=_MADE_OR_THERE)
    endpoint = {"name": ENDPOINT, "champion": f"{ENDPOINT}@{candidates[0].version}"}
    client.call("POST", "/api/v1/endpoints", ok=_MADE_OR_THERE, json=endpoint)
    arms = [
        {"name": f"v{one.version}", "model": f"{ENDPOINT}@{one.version}", "payload": {"title": one.title}}
        for one in candidates
    ]
    experiment = {
        "name": EXPERIMENT,
        "endpoint": ENDPOINT,
        "strategy": "bandit",
        "arms": arms,
        "policy": {"name": "thompson", "floor": 0.1, "burn_in": 5},
        "reward": {"kind": "binary", "window_seconds": 3600},
        "promotion": {"auto": False},
    }
    client.call("POST", "/api/v1/experiments", ok=_MADE_OR_THERE, json=experiment)


def wait_served(url: str, key: str) -> None:
    """Until a bundle of the experiment comes with this key. Raises NotServed."""
    ends = time.monotonic() + _SERVED_SECONDS
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10.0) as http:
        while True:
            answer = http.get(f"/api/v1/endpoints/{ENDPOINT}/edge")
            if answer.status_code == httpx.codes.OK and answer.json()["experiment"] == EXPERIMENT:
                return
            if time.monotonic() > ends:
                raise NotServed(f"{url} gives no bundle of {ENDPOINT}: {answer.status_code} {answer.text[:300]}")
            time.sleep(_POLL_SECONDS)
