"""The platform behind PgBouncer in transaction mode, with fewer server connections than it has
processes."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from noregret.demo import digits, scenes
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret.learning.shown.results import Results

from tests.pooler import SERVER_CONNECTIONS, pooled_database, program

pytestmark = pytest.mark.skipif(program() is None, reason="pgbouncer is not installed: apt-get install pgbouncer")


@dataclass(frozen=True)
class Pooled:
    """A running platform, and the address of its database without the pooler."""

    platform: RunningPlatform
    pooled: str
    direct: str

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NOREGRET_")}
        return subprocess.run(
            [sys.executable, str(MANAGE), *arguments, "--data-dir", str(self.platform.data_dir)],
            env=environment | {"DATABASE_URL": self.pooled},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def value(self, query: str) -> Any:
        with psycopg.connect(self.direct) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture(scope="module")
def pooled(engines: None) -> Iterator[Pooled]:
    folder = Path(tempfile.mkdtemp(prefix="noregret-pooled-"))
    with pooled_database() as (address, direct):
        environment = {"NOREGRET_SECRET_KEY": "", "NOREGRET_LOG_LEVEL": "INFO", "DATABASE_URL": address}
        with RunningPlatform(folder, web_workers=2, environment=environment) as running:
            yield Pooled(running, address, direct)
    shutil.rmtree(folder, ignore_errors=True)


def test_pooler__doctor_and_readiness__find_nothing(pooled: Pooled) -> None:
    found = pooled.manage("doctor")
    assert found.returncode == 0, found.stdout
    assert "it takes feedback" in found.stdout
    ready = httpx.get(f"{pooled.platform.url}/readyz?strict=1", timeout=10)
    assert (ready.status_code, ready.json()["checks"]["database"]["ok"]) == (200, True)


def test_pooler__traffic_and_killed_learners__is_learned_and_promoted_and_equal_to_the_ledger(pooled: Pooled) -> None:
    made = pooled.manage("apikey", "tests", "--scopes", "predict,feedback,manage")
    assert made.returncode == 0, made.stderr
    steps = ["kill", "rebuild"]

    def show(results: Results, seconds: float) -> None:
        if steps and results.decisions > 300:
            if steps.pop(0) == "kill":
                for learner in pooled.platform.pids("worker")[1:]:
                    os.kill(learner, signal.SIGKILL)
            else:
                assert pooled.manage("rebuild").returncode == 0

    ending = scenes.run(
        scenes.Bandit(), url=pooled.platform.url, key=made.stdout.strip(), digits=digits.load(1), seed=1, show=show
    )
    assert steps == []
    assert (ending.problem, ending.traffic_problems) == (None, [])
    assert ending.side.experiment["promoted_arm"] == "v3", ending.side.results
    assert ending.side.ledger.right, ending.side.ledger
    checked = pooled.manage("rebuild", "--check")
    assert checked.returncode == 0, checked.stdout
    assert pooled.value("SELECT count(*) FROM serving_reward") > 300
    assert pooled.value("SELECT count(*) FROM learning_lease") >= 2
    assert pooled.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") <= (
        SERVER_CONNECTIONS + 1  # and this look itself
    )


_LEARNERS = """
import os, signal, threading, time
from django.db import connection
from noregret.learning import locks
locks.LEASE_SECONDS = 2.0
inside, most, turns, watch = 0, 0, 0, threading.Lock()

def learner():
    global inside, most, turns
    for _ in range(40):
        with locks.endpoint_lock(7) as ours:
            if ours:
                with watch:
                    inside += 1
                    most, turns = max(most, inside), turns + 1
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_sleep(0.005)")
                with watch:
                    inside -= 1
    connection.close()

threads = [threading.Thread(target=learner) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
connection.close()
reader, writer = os.pipe()
if os.fork() == 0:
    with locks.endpoint_lock(7) as ours:
        os.write(writer, b"1" if ours else b"0")
        os.kill(os.getpid(), signal.SIGKILL)
taken = os.read(reader, 1)
with locks.endpoint_lock(7) as ours:
    beside = ours
until = time.monotonic() + 3 * locks.LEASE_SECONDS
after = False
while not after and time.monotonic() < until:
    time.sleep(0.1)
    with locks.endpoint_lock(7) as ours:
        after = ours
print("most", most, "turns", turns > 0, "taken", taken, "beside", beside, "after", after)
"""


def test_pooler__lock__excludes_and_ends_with_a_killed_holder(pooled: Pooled) -> None:
    found = subprocess.run(
        [sys.executable, str(MANAGE), "shell", "--no-imports", "-c", _LEARNERS],
        env=os.environ | {"DATABASE_URL": pooled.pooled},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.stdout.split("\n")[0] == "most 1 turns True taken b'1' beside False after True", found.stderr


def test_pooler__a_startup_parameter_that_it_refuses__is_told_by_doctor(pooled: Pooled) -> None:
    refused = Pooled(pooled.platform, f"{pooled.pooled}?options=-c%20search_path%3Dpublic", pooled.direct)
    found = refused.manage("doctor")
    assert found.returncode == 1
    assert "unsupported startup parameter" in found.stdout
