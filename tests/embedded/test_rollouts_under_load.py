"""Champions come and go under load: two web processes, four clients, no 5xx, and nobody who retired
answers again."""

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from noregret.demo.client import Client
from noregret.embedded.running import MANAGE, RunningPlatform

# A snapshot is at most 250 ms old in normal running; the machine of a test also runs the load.
REFRESHED_SECONDS = 0.7


@pytest.fixture(scope="module")
def platform_up() -> Iterator[RunningPlatform]:
    folder = Path(tempfile.mkdtemp(prefix="noregret-load-"))
    with RunningPlatform(folder, web_workers=2, environment={"NOREGRET_SECRET_KEY": ""}) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def key(platform_up: RunningPlatform) -> str:
    command = [sys.executable, str(MANAGE), "apikey", "load", "--scopes", "predict,feedback,manage"]
    made = subprocess.run(
        [*command, "--data-dir", str(platform_up.data_dir)], capture_output=True, text=True, timeout=60, check=True
    )
    return made.stdout.strip()


class Load:
    """Clients that ask `decide` all the time, and remember who answered when."""

    def __init__(self, url: str, key: str) -> None:
        self.answers: list[tuple[float, float, int, str]] = []  # asked at, answered at, status, model
        self._url, self._key = url, key
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=20)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, headers={"Authorization": f"Bearer {self._key}"}, timeout=10.0) as client:
            while not self._stop.is_set():
                asked = time.monotonic()
                answer = client.post("/api/v1/endpoints/pages/decide", json={"unit": f"u{asked}"})
                body = answer.json()
                self.answers.append((asked, time.monotonic(), answer.status_code, body.get("model", "")))


def test_promoted_and_rolled_back__ten_times_under_load__nobody_retired_answers(
    platform_up: RunningPlatform, key: str
) -> None:
    client = Client(platform_up.url, key)
    for version in ("a", "b"):
        client.post("/api/v1/models", {"name": "page", "version": version, "framework": "static", "payload": version})
    client.post("/api/v1/endpoints", {"name": "pages", "champion": "page@a"})
    changes: list[tuple[float, str]] = []
    with Load(platform_up.url, key) as load:
        time.sleep(0.5)
        for i in range(10):
            client.post(
                "/api/v1/experiments",
                {
                    "name": f"e{i}",
                    "endpoint": "pages",
                    "strategy": "bandit",
                    "arms": [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}],
                },
            )
            client.post(f"/api/v1/experiments/e{i}/start", {})
            time.sleep(0.3)
            client.post(f"/api/v1/experiments/e{i}/promote", {"arm": "b"})
            changes.append((time.monotonic(), "page@b"))
            time.sleep(REFRESHED_SECONDS + 0.3)
            client.post("/api/v1/endpoints/pages/rollback", {})
            changes.append((time.monotonic(), "page@a"))
            time.sleep(REFRESHED_SECONDS + 0.3)
    client.close()
    assert len(load.answers) > 1000
    assert {status for _, _, status, _ in load.answers} == {200}
    assert {model for _, _, _, model in load.answers} == {"page@a", "page@b"}
    for at, champion in changes:
        # From the refresh on, until the next change can have begun.
        begin, end = at + REFRESHED_SECONDS, at + REFRESHED_SECONDS + 0.3
        settled = [model for asked, done, _, model in load.answers if asked > begin and done < end]
        assert settled
        assert set(settled) == {champion}
