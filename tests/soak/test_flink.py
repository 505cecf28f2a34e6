"""A job on a local cluster of Apache Flink whose task manager is killed in the middle: each request
has one answer, and is once in the ledger."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret_client import Client

from tests.client_environments import python_of
from tests.soak.flink_cluster import FlinkCluster

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 3000
RATE = 50

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="noregret-flink-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def platform(folder: Path) -> Iterator[RunningPlatform]:
    with RunningPlatform(folder / "platform", environment={"NOREGRET_SECRET_KEY": ""}) as platform:
        yield platform


def until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_job__task_manager_killed__each_request_has_one_answer_and_one_row(
    folder: Path, platform: RunningPlatform
) -> None:
    words = ["apikey", "flink", "--scopes", "predict,feedback,manage", "--data-dir", str(platform.data_dir)]
    made = subprocess.run(
        [sys.executable, str(MANAGE), *words], env=platform.environment, capture_output=True, text=True, check=True
    )
    key = made.stdout.strip()
    with Client(platform.url, key, timeout=60.0) as client:
        for version in ("zeros", "ones"):
            definition = {"framework": "python", "callable": f"tests.callables.{version}"}
            client.register_definition({"name": "half", "version": version, **definition})
        client.create_endpoint("halves", champion="half@zeros", deadline_ms=5000)
        arms = [{"name": version, "model": f"half@{version}"} for version in ("zeros", "ones")]
        client.create_experiment({"name": "halves-1", "endpoint": "halves", "strategy": "ab", "arms": arms}, start=True)
    given = {"url": platform.url, "key": key, "name": "f", "endpoint": "halves", "folder": str(folder)}
    source = str(ROOT / "clients" / "python" / "src")
    with FlinkCluster(python_of("flink"), folder, {"PYTHONPATH": source}) as cluster:
        job = cluster.submit(
            ROOT / "tests" / "soak" / "flink_job.py", json.dumps(given | {"count": REQUESTS, "rate": RATE})
        )
        # From a checkpoint it goes on after it was killed: some have to be whole before.
        until(lambda: cluster.checkpoints(job).get("completed", 0) >= 3, 600)
        assert cluster.state(job) == "RUNNING"
        cluster.kill("taskmanager")
        cluster.start("taskmanager")
        until(lambda: cluster.state(job) == "FINISHED", 1200)
        assert cluster.checkpoints(job)["restored"] >= 1, cluster.checkpoints(job)
    results = [
        json.loads(line) for path in (folder / "answers").rglob("*part*") for line in path.read_text().splitlines()
    ]
    assert {result["status"] for result in results} == {200}
    answers = {result["answer"]["request_id"]: result["answer"]["decision_id"] for result in results}
    assert len(results) == len(answers) == REQUESTS
    until(lambda: len(ledger(platform, key)) >= REQUESTS, 120)
    rows = ledger(platform, key)
    assert sorted(row["unit"] for row in rows) == sorted(answers)
    assert {row["unit"]: row["decision_id"] for row in rows} == answers


def ledger(platform: RunningPlatform, key: str) -> list[dict[str, Any]]:
    answer = httpx.get(
        f"{platform.url}/api/v1/experiments/halves-1/decisions.ndjson",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        trust_env=False,
    )
    return [json.loads(line) for line in answer.text.splitlines()]
