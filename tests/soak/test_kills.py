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
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from noregret.demo import digits, scenes
from noregret.demo.client import Client
from noregret.embedded.running import RunningPlatform
from noregret.env import POSTGRES_SOCKETS, secret_key_file, socket_dir

from tests.embedded.test_up import ROLES, manage, wait_until_well
from tests.promises import Told, Users, unlike_the_ledger, wait_for
from tests.soak.test_upgrade import differing

SECONDS = float(os.environ.get("NOREGRET_SOAK_SECONDS", "1200"))
SEED = int(os.environ.get("NOREGRET_SOAK_SEED", "1"))
EXPERIMENT = "digits-demo"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(int(SECONDS) + 600)]


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
    with Users(platform_up.url, key, scenes.ENDPOINT, EXPERIMENT, world.images.tolist(), SEED) as told:
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
    assert wait_for(lambda: unlike(told, platform_up.data_dir), seconds=120) == ""
    assert wait_for(lambda: differing(platform_up.data_dir), seconds=180) == ""


def unlike(told: Told, data_dir: Path) -> str:
    address = f"host={socket_dir(data_dir) / POSTGRES_SOCKETS} user=postgres dbname=noregret"
    return unlike_the_ledger(told, secret_key_file(data_dir).read_text().strip(), address)
