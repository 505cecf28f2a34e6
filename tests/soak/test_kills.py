"""Random kills and stops of every process under load: nothing acknowledged is lost, doubled or
wrong, and predict answers no 5xx.

`NOREGRET_SOAK_SECONDS` says for how long (20 minutes), `NOREGRET_SOAK_SEED` with which victims.
"""

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import psycopg
import pytest
from noregret.demo import digits, scenes
from noregret.demo.client import Client
from noregret.embedded.running import RunningPlatform
from noregret.env import POSTGRES_SOCKETS, secret_key_file, socket_dir

from serving.tokens import Signer
from tests.embedded.test_up import ROLES, manage, wait_until_well
from tests.soak.test_upgrade import differing, wait_for

SECONDS = float(os.environ.get("NOREGRET_SOAK_SECONDS", "1200"))
SEED = int(os.environ.get("NOREGRET_SOAK_SEED", "1"))
CLIENTS = 8
EXPERIMENT = "digits-demo"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(int(SECONDS) + 600)]


@dataclass(slots=True)
class Told:
    """What was acknowledged, over all clients."""

    arms: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Of each learnable decision of the experiment: its arm and its propensity."""
    rewards: dict[str, float] = field(default_factory=dict)
    unanswered: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)


class Users:
    """Each predicts, and tells the half of its outcomes; what fails on the way is tried again by
    nobody, so that what was acknowledged is known to the letter."""

    def __init__(self, url: str, key: str, images: list[list[float]]) -> None:
        self.told = Told()
        self._url, self._key, self._images = url, key, images
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(SEED * 1000 + i,), daemon=True) for i in range(CLIENTS)
        ]

    def __enter__(self) -> Told:
        for thread in self._threads:
            thread.start()
        return self.told

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60.0)

    def _run(self, seed: int) -> None:
        generator = random.Random(seed)
        with httpx.Client(base_url=self._url, headers={"Authorization": f"Bearer {self._key}"}, timeout=20.0) as http:
            while not self._stop.is_set():
                self._one(http, generator)
                time.sleep(0.01)

    def _one(self, http: httpx.Client, generator: random.Random) -> None:
        unit = f"u{generator.getrandbits(24):x}"
        body = {"unit": unit, "inputs": [generator.choice(self._images)]}
        predicted = self._call(http, "predict", f"/api/v1/endpoints/{scenes.ENDPOINT}/predict", body)
        if predicted is None or not predicted["learnable"] or predicted["experiment"] != EXPERIMENT:
            return
        decision = predicted["decision_id"]
        with self._lock:
            self.told.arms[decision] = predicted["arm"], predicted["propensity"]
        if generator.random() < 0.5:
            value = float(generator.random() < 0.3)
            recorded = self._call(http, "feedback", "/api/v1/feedback", {"decision_id": decision, "value": value})
            if recorded is not None and recorded["status"] == "recorded":
                with self._lock:
                    self.told.rewards[decision] = value

    def _call(self, http: httpx.Client, name: str, path: str, body: Any) -> Any:
        try:
            answer = http.post(path, json=body)
        except httpx.TransportError as error:
            with self._lock:
                self.told.unanswered[f"{name} {type(error).__name__}"] += 1
            time.sleep(0.2)
            return None
        with self._lock:
            self.told.statuses[name, answer.status_code] += 1
        if answer.status_code in (200, 202):
            return answer.json()
        if name == "predict" or answer.status_code != 503:
            with self._lock:
                self.told.refused.append(f"{name} {answer.status_code} {answer.text[:500]}")
        return None


@pytest.fixture
def platform_up() -> Iterator[RunningPlatform]:
    folder = Path(tempfile.mkdtemp(prefix="noregret-kills-"))
    with RunningPlatform(folder, web_workers=2, environment={"NOREGRET_SECRET_KEY": ""}, with_grpc=True) as running:
        wait_until_well(running.url)
        yield running
    shutil.rmtree(folder, ignore_errors=True)


def harm(platform_up: RunningPlatform, generator: random.Random) -> str:
    """One process, killed or stopped for some seconds; what was done to whom."""
    role = generator.choice(ROLES)
    pids = platform_up.pids(role)
    if not pids:
        return f"{role}: away"
    pid = generator.choice(pids)
    number = generator.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(generator.uniform(0.5, 6.0))
            os.kill(pid, signal.SIGCONT)
    return f"{role} {number.name}"


def is_ready(url: str) -> str:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=10)
    except httpx.TransportError as error:
        return repr(error)
    return "" if answer.status_code == 200 else answer.text


def test_kills_and_stops__of_everything_under_load__lose_double_and_falsify_nothing(
    platform_up: RunningPlatform,
) -> None:
    made = manage("apikey", "soak", "--scopes", "predict,feedback,manage", data_dir=platform_up.data_dir)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    world = digits.load(SEED)
    client = Client(platform_up.url, key)
    scenes.register(client, world.candidates)
    scenes.begin(
        client,
        "1",
        strategy="bandit",
        arms=[{"name": f"v{c.version}", "model": f"digits@{c.version}"} for c in world.candidates],
        policy={"name": "thompson", "floor": 0.05, "burn_in": 100},
        reward={"kind": "binary", "window_seconds": 120},
        promotion={"rule": "anytime", "auto": False},
    )
    client.close()
    generator, harms = random.Random(SEED), Counter[str]()
    until = time.monotonic() + SECONDS
    with Users(platform_up.url, key, world.images.tolist()) as told:
        while time.monotonic() < until:
            time.sleep(generator.uniform(1.0, 8.0))
            harms[harm(platform_up, generator)] += 1
    for process in psutil.Process(platform_up.process.pid).children(recursive=True):  # type: ignore[union-attr]
        with contextlib.suppress(psutil.Error):
            process.resume()
    assert wait_for(lambda: is_ready(platform_up.url), seconds=120) == ""
    print(harms, told.statuses, told.unanswered, len(told.arms), len(told.rewards))  # noqa: T201 - what it is run for
    assert told.refused == []
    assert len(told.arms) > 10 * SECONDS
    assert wait_for(lambda: unlike_the_ledger(told, platform_up.data_dir), seconds=120) == ""
    assert wait_for(lambda: differing(platform_up.data_dir), seconds=180) == ""


def unlike_the_ledger(told: Told, data_dir: Path) -> str:
    """What was acknowledged and is not in PostgreSQL, or otherwise, or twice."""
    signer = Signer(secret_key_file(data_dir).read_text().strip())
    uuid_of: dict[str, UUID] = {text: UUID(bytes=signer.read(text).id) for text in told.arms}
    address = f"host={socket_dir(data_dir) / POSTGRES_SOCKETS} user=postgres dbname=noregret"
    with closing(psycopg.connect(address)) as connection:
        decisions: dict[UUID, list[tuple[str, float]]] = {}
        for row, arm, propensity in connection.execute(
            "SELECT d.id, a.name, d.propensity FROM serving_decision d JOIN experiments_arm a ON a.id = d.arm_id"
        ):
            decisions.setdefault(row, []).append((arm, propensity))
        rewards: dict[UUID, list[float]] = {}
        for row, value in connection.execute("SELECT decision_id, value FROM serving_reward WHERE NOT defaulted"):
            rewards.setdefault(row, []).append(value)
    unlike = [text for text, one in told.arms.items() if decisions.get(uuid_of[text]) != [one]]
    unrewarded = [text for text, value in told.rewards.items() if rewards.get(uuid_of[text]) != [value]]
    doubled = sum(len(rows) > 1 for rows in (*decisions.values(), *rewards.values()))
    if not (unlike or unrewarded or doubled):
        return ""
    example = unlike[0] if unlike else unrewarded[0] if unrewarded else ""
    return (
        f"{len(unlike)} of {len(told.arms)} decisions, {len(unrewarded)} of {len(told.rewards)} rewards, {doubled} "
        f"twice; {example} {told.arms.get(example)} is {decisions.get(uuid_of[example]) if example else None}"
    )
