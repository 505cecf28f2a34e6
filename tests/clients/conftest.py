"""A whole platform as a child process, its key, and a proxy before it that goes wrong as told."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from noregret.embedded.running import MANAGE, RunningPlatform
from noregret_client import Client, NotFound

from tests.clients.faulty_proxy import FaultyProxy

Named = Callable[[str], str]


@pytest.fixture(scope="session")
def page_port() -> int:
    """Where pages of another origin than the platform's are served, which their origin names."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def running(page_port: int) -> Iterator[RunningPlatform]:
    folder = Path(tempfile.mkdtemp(prefix="noregret-clients-"))
    environment = {"NOREGRET_SECRET_KEY": "", "NOREGRET_CORS_ORIGINS": f"http://127.0.0.1:{page_port}"}
    with RunningPlatform(folder, environment=environment) as platform:
        yield platform
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def key(running: RunningPlatform) -> str:
    words = ["apikey", "clients", "--scopes", "predict,feedback,manage", "--data-dir", str(running.data_dir)]
    made = subprocess.run(
        [sys.executable, str(MANAGE), *words], env=running.environment, capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


@pytest.fixture
def client(running: RunningPlatform, key: str) -> Iterator[Client]:
    with Client(running.url, key, timeout=30.0) as made:
        yield made


@pytest.fixture
def proxy(running: RunningPlatform) -> Iterator[FaultyProxy]:
    with FaultyProxy(running.url) as made:
        yield made


@pytest.fixture(scope="session")
def pages(running: RunningPlatform, key: str) -> str:
    """An endpoint with two static arms in a running bandit; its experiment is `pages-1`."""
    with Client(running.url, key, timeout=30.0) as made:
        for version in ("a", "b"):
            made.register_payload({"text": version.upper()}, name="page", version=version)
        made.create_endpoint("pages", champion="page@a")
        arms = [{"name": v, "model": f"page@{v}", "payload": {"text": v.upper()}} for v in ("a", "b")]
        made.create_experiment({"name": "pages-1", "endpoint": "pages", "strategy": "bandit", "arms": arms})
        made.start("pages-1")
        served_by(made, "pages", "pages-1")
    return "pages"


def served_by(client: Client, endpoint: str, experiment: str | None) -> Any:
    """A first answer of an endpoint whose experiment was just started: web processes hear of it
    within moments."""
    for _ in range(200):
        try:
            choice = client.decide(endpoint)
        except NotFound:
            choice = None
        if choice is not None and choice.experiment == experiment:
            return choice
        time.sleep(0.05)
    raise AssertionError(f"{endpoint} is not served")
