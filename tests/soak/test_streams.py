"""100,000 requests from a stream while consumers, Redis and PostgreSQL are killed: 100,000 answers,
100,000 rows, no two for one request."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 100_000

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own: PostgreSQL runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="noregret-streams-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def figures_of(engine: str, folder: Path) -> dict[str, Any]:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "platform")))
    ran = subprocess.run(
        [sys.executable, "-m", "tests.soak.stream_scenario", engine, str(REQUESTS), str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    figures: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    print(engine, figures)  # noqa: T201 - the figures are what this is run for
    assert figures["faults"] == []
    assert figures["distinct"] == figures["rows"] == REQUESTS
    assert figures["left"] == 0
    assert figures["exit_codes"] == [0, 0]
    assert figures["consumers_killed"] >= 3
    assert figures["servers_killed"] == ["redis", "postgres", "redis", "postgres", "redis"]
    return figures


def test_redis__100_000_requests__consumers_redis_and_postgresql_killed__one_answer_and_row_each(folder: Path) -> None:
    assert figures_of("redis", folder)["answers"] == REQUESTS


def test_kafka__100_000_requests__consumers_redis_and_postgresql_killed__one_row_each(folder: Path) -> None:
    """The broker does not last, and is not killed; nor does it take back what a dead consumer
    wrote: what is written again is the same to the byte."""
    figures_of("kafka", folder)
