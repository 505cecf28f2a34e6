"""Champions come and go under load: two web processes, four clients, no 5xx, and nobody who retired
answers again."""

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from noregret.demo.client import Client
from noregret.embedded.running import MANAGE, RunningPlatform

CLIENTS = 4
IN_A_ROW = 20

# A snapshot is at most 250 ms old in normal running; a busy machine's processes are later.
REFRESHED_SECONDS = 10.0


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


class Answer(NamedTuple):
    asked: float
    answered: float
    status: int
    model: str


class Load:
    """Clients that ask `decide` all the time, each over its own connection and so of one process,
    and remember who answered when.
    """

    def __init__(self, url: str, key: str) -> None:
        self.answers: list[list[Answer]] = [[] for _ in range(CLIENTS)]  # of each client, in order
        self._url, self._key = url, key
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(mine,), daemon=True) for mine in self.answers]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=20)

    def hears(self, model: str) -> tuple[float, float]:
        """Waits until each client has heard `model`, and nobody else, `IN_A_ROW` times, and has
        been answered as often again: a time from which on all know, and the end.
        """
        asked = time.monotonic()
        self._wait(lambda mine: [a.model for a in mine[-IN_A_ROW:] if a.asked > asked] == [model] * IN_A_ROW)
        all_know = time.monotonic()
        self._wait(lambda mine: len(mine) >= IN_A_ROW and mine[-IN_A_ROW].asked > all_know)
        return all_know, time.monotonic()

    def _wait(self, holds: Callable[[list[Answer]], bool]) -> None:
        deadline = time.monotonic() + REFRESHED_SECONDS
        while not all(holds(mine) for mine in self.answers):
            assert time.monotonic() < deadline, [mine[-1:] for mine in self.answers]
            time.sleep(0.02)

    def _run(self, mine: list[Answer]) -> None:
        with httpx.Client(base_url=self._url, headers={"Authorization": f"Bearer {self._key}"}, timeout=10.0) as client:
            while not self._stop.is_set():
                asked = time.monotonic()
                answer = client.post("/api/v1/endpoints/pages/decide", json={"unit": f"u{asked}"})
                mine.append(Answer(asked, time.monotonic(), answer.status_code, answer.json().get("model", "")))


def test_promoted_and_rolled_back__ten_times_under_load__nobody_retired_answers(
    platform_up: RunningPlatform, key: str
) -> None:
    client = Client(platform_up.url, key)
    for version in ("a", "b"):
        client.post("/api/v1/models", {"name": "page", "version": version, "framework": "static", "payload": version})
    client.post("/api/v1/endpoints", {"name": "pages", "champion": "page@a"})
    settled: list[tuple[str, float, float]] = []  # the champion, since when all know, and until when
    with Load(platform_up.url, key) as load:
        _, begun = load.hears("page@a")  # before, the endpoint need not be known everywhere
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
            settled.append(("page@b", *load.hears("page@b")))
            client.post("/api/v1/endpoints/pages/rollback", {})
            settled.append(("page@a", *load.hears("page@a")))
    client.close()
    assert {answer.status for mine in load.answers for answer in mine if answer.asked > begun} == {200}
    for champion, all_know, end in settled:
        models = [a.model for mine in load.answers for a in mine if a.asked > all_know and a.answered < end]
        assert len(models) >= CLIENTS * IN_A_ROW // 2
        assert set(models) == {champion}
