"""From the first version that ran whole to this one, under load: nothing acknowledged is lost, and
every sum follows from the ledger.

The old version comes from the repository's own history, and runs with today's packages. A copy
without a history skips this, loudly.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from noregret.demo.client import Client
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret.env import POSTGRES_SOCKETS, secret_key_file, socket_dir

from serving.tokens import Signer

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
FIRST = os.environ.get("NOREGRET_UPGRADE_FROM", "b1b4145")
"""The first commit whose `manage.py up` gets ready. `up` came four commits before, when there were
no learner and no API yet."""
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "silent": {"reward": {"kind": "binary", "window_seconds": 5}},
    "defaulted": {"reward": {"kind": "continuous", "window_seconds": 5, "default": 0, "minimum": 0, "maximum": 9}},
    "over": {"reward": {"kind": "continuous", "window_seconds": 2, "minimum": 0, "maximum": 9}},
    "split": {"strategy": "ab", "reward": {"kind": "binary", "window_seconds": 5}},
}


class OldPlatform(RunningPlatform):
    """`up` of another tree, with this one's packages."""

    def __init__(self, tree: Path, data_dir: Path) -> None:
        super().__init__(data_dir, environment={"NOREGRET_SECRET_KEY": "", "PYTHONPATH": f"{tree}:{tree / 'platform'}"})
        self.manage = tree / "manage.py"
        self._command[1:3] = [str(self.manage)]


@pytest.fixture
def tree() -> Iterator[Path]:
    """The files of the first commit."""
    archived = subprocess.run(["git", "-C", str(ROOT), "archive", FIRST], capture_output=True, check=False)
    if archived.returncode != 0:
        pytest.skip(
            f"THE UPGRADE WAS NOT TESTED, for this copy's history has no {FIRST}: {archived.stderr.decode().strip()}"
        )
    folder = Path(tempfile.mkdtemp(prefix="noregret-old-"))
    folder.chmod(0o755)
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(folder, filter="data")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="noregret-upgrade-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def manage(script: Path, *arguments: str, data_dir: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOREGRET_")}
    tree = script.parent
    return subprocess.run(
        [sys.executable, str(script), *arguments, "--data-dir", str(data_dir)],
        env=environment | {"PYTHONPATH": f"{tree}:{tree / 'platform'}"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=tree,
    )


class Load:
    """Clients that decide and send feedback all the time, whoever answers, and remember what was
    acknowledged."""

    def __init__(self, url: str, key: str, endpoints: list[str]) -> None:
        self.decisions: set[str] = set()
        self.rewards: dict[tuple[str, float], str] = {}
        self.refused: list[str] = []
        self._url, self._key, self._endpoints = url, key, endpoints
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(3)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _run(self, seed: int) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        number = seed
        with httpx.Client(base_url=self._url, headers=headers, timeout=10.0) as client:
            while not self._stop.is_set():
                number += 3
                try:
                    self._one(client, number)
                except httpx.HTTPError:  # it is down between the two
                    time.sleep(0.2)
                time.sleep(0.005)

    def _one(self, client: httpx.Client, number: int) -> None:
        endpoint = self._endpoints[number % len(self._endpoints)]
        answer = client.post(f"/api/v1/endpoints/{endpoint}/decide", json={"unit": f"u{number % 400}"})
        if answer.status_code != 200:
            return
        body = answer.json()
        if not body["learnable"]:
            return
        self.decisions.add(body["decision_id"])
        value = float(number % 5 == 0)
        if number % 3 == 0:
            told = client.post("/api/v1/feedback", json={"decision_id": body["decision_id"], "value": value})
            if told.status_code == 202 and told.json()["status"] == "recorded":
                self.rewards[body["decision_id"], value] = endpoint
            elif told.status_code not in (202, 503):
                self.refused.append(told.text)


def test_upgrade__under_load__loses_nothing_and_every_sum_follows(tree: Path, data_dir: Path) -> None:
    old = OldPlatform(tree, data_dir)
    old.start()
    port = int(old.url.rpartition(":")[2])
    made = manage(old.manage, "apikey", "load", "--scopes", "predict,feedback,manage", data_dir=data_dir)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    client = Client(old.url, key)
    for version in ("a", "b"):
        client.post("/api/v1/models", {"name": "page", "version": version, "framework": "static", "payload": version})
    for name, changes in EXPERIMENTS.items():
        client.post("/api/v1/endpoints", {"name": name, "champion": "page@a"})
        arms = [{"name": "a", "model": "page@a", "weight": 0.5}, {"name": "b", "model": "page@b", "weight": 0.5}]
        if changes.get("strategy") != "ab":
            arms = [{"name": arm["name"], "model": arm["model"]} for arm in arms]
        body = {"name": name, "endpoint": name, "strategy": "bandit", "arms": arms, "promotion": {"auto": False}}
        client.post("/api/v1/experiments", body | changes)
        client.post(f"/api/v1/experiments/{name}/start", {})
    new = RunningPlatform(data_dir, port=port, environment={"NOREGRET_SECRET_KEY": ""})
    try:
        with Load(old.url, key, list(EXPERIMENTS)) as load:
            time.sleep(12)
            # One that is over before: nobody learns for it any more, and its sums are to be right
            # all the same.
            client.post("/api/v1/experiments/over/stop", {})
            time.sleep(8)
            client.close()
            before = len(load.decisions)
            assert old.stop() == 0
            for log in (data_dir / "logs").glob("*"):
                log.unlink()  # what the old version said
            new.start()
            after_start = len(load.decisions)
            time.sleep(15)
        assert before > 200
        assert len(load.decisions) > after_start + 100
        assert load.refused == []
        missing = wait_for(lambda: missing_in_ledger(load, data_dir))
        assert missing == ""
        said = wait_for(lambda: differing(data_dir), seconds=90)
        assert said == ""
        said = "".join(path.read_text(errors="replace") for path in (data_dir / "logs").glob("*"))
        assert [line for line in said.splitlines() if "partition constraint" in line] == []
    finally:
        old.stop()
        new.stop()


def wait_for(problem: Any, seconds: float = 40.0) -> str:
    """Until there is no problem any more, or what it is."""
    deadline = time.monotonic() + seconds
    while (said := problem()) and time.monotonic() < deadline:
        time.sleep(2.0)
    return str(said)


def differing(data_dir: Path) -> str:
    checked = manage(MANAGE, "rebuild", "--check", data_dir=data_dir)
    return "" if checked.returncode == 0 else checked.stdout[-3000:] + checked.stderr[-2000:]


def missing_in_ledger(load: Load, data_dir: Path) -> str:
    """What was acknowledged and is not in PostgreSQL."""
    signer = Signer(secret_key_file(data_dir).read_text().strip())
    uuid_of = {text: UUID(bytes=signer.read(text).id) for text in load.decisions}
    address = f"host={socket_dir(data_dir) / POSTGRES_SOCKETS} user=postgres dbname=noregret"
    with closing(psycopg.connect(address)) as connection:
        decisions = {row[0] for row in connection.execute("SELECT id FROM serving_decision")}
        rewards = {
            (row[0], row[1])
            for row in connection.execute("SELECT decision_id, value FROM serving_reward WHERE NOT defaulted")
        }
    lost = [text for text, uuid in uuid_of.items() if uuid not in decisions]
    unrewarded = [text for text, value in load.rewards if (uuid_of[text], value) not in rewards]
    return (
        f"{len(lost)} of {len(uuid_of)} decisions, {len(unrewarded)} of {len(load.rewards)} rewards"
        if lost or unrewarded
        else ""
    )
