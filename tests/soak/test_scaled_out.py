"""A whole platform on a Redis Cluster, behind PgBouncer, with a replica for its figures: models are
promoted by their rewards while a server of the cluster is killed."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
from noregret.demo import digits, scenes
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret.learning.shown.results import Results

from serving.redis_keys import Keys
from tests.pooler import pooled_database, program
from tests.redis_cluster import running_cluster, running_server
from tests.replica import running_replica
from tests.serving.test_when_things_break import wait_for

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(program() is None, reason="pgbouncer is not installed: apt-get install pgbouncer"),
]


def test_cluster_pooler_and_replica__server_killed_under_traffic__is_learned_promoted_and_shown(engines: None) -> None:
    folder = Path(tempfile.mkdtemp(prefix="nr-scaled-"))
    try:
        with (
            running_server() as broker,
            running_cluster() as cluster,
            running_replica() as replica,
            pooled_database(replica.sockets) as (address, _),
        ):
            environment = {
                "NOREGRET_SECRET_KEY": "",
                "DATABASE_URL": address,
                "NOREGRET_REPLICA_URL": f"{address}_replica",
                "REDIS_URL": cluster.url,
                "NOREGRET_BROKER_URL": broker,
            }

            def manage(*arguments: str) -> "subprocess.CompletedProcess[str]":
                others = {name: value for name, value in os.environ.items() if not name.startswith("NOREGRET_")}
                command = [sys.executable, str(MANAGE), *arguments, "--data-dir", str(folder)]
                named = {name: value for name, value in environment.items() if value}
                return subprocess.run(
                    command, env=others | named, capture_output=True, text=True, timeout=120, check=False
                )

            with RunningPlatform(folder, web_workers=1, environment=environment) as running:
                assert wait_for(
                    lambda: httpx.get(f"{running.url}/readyz?strict=1", timeout=10).status_code == 200, 60.0
                ), httpx.get(f"{running.url}/readyz", timeout=10).text
                found = manage("doctor")
                assert found.returncode == 0, found.stdout
                assert "3 servers take writes" in found.stdout
                made = manage("apikey", "tests", "--scopes", "predict,feedback,manage")
                assert made.returncode == 0, made.stderr
                killed: list[int] = []

                def show(results: Results, seconds: float) -> None:
                    if not killed and results.decisions > 300:
                        killed.append(cluster.owner(Keys("nr:").decisions("digits")))
                        cluster.kill(killed[0])

                ending = scenes.run(
                    scenes.Bandit(), url=running.url, key=made.stdout.strip(), digits=digits.load(1), seed=1, show=show
                )
                assert killed
                told = httpx.get(f"{running.url}/readyz", timeout=10).text
                assert (ending.problem, ending.traffic_problems) == (None, []), (ending, told)
                assert ending.side.experiment["promoted_arm"] == "v3", ending.side.results
                # What the killed server's replica did not have yet, and nothing else.
                ledger = ending.side.ledger
                assert ledger.missing_decisions <= 20, ledger
                assert ledger.missing_rewards <= ledger.missing_decisions, ledger
                assert ledger.wrong_rewards == 0, ledger
                assert manage("rebuild", "--check").returncode == 0
                cluster.start_server(killed[0])
                ready = httpx.get(f"{running.url}/readyz", timeout=10).json()["checks"]
                assert ready["redis"]["slots_without_server"] == 0
                assert wait_for(
                    lambda: httpx.get(f"{running.url}/readyz", timeout=10).json()["checks"]["replica"]["ok"], 30.0
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
