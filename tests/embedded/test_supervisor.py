"""Children that are stopped: all of them within one time, whatever they do about it."""

import os
import time
from pathlib import Path

import pytest
from noregret.embedded import supervisor
from noregret.embedded.child import Child
from noregret.embedded.stop_request import StopRequest

from tests.learning.test_celery import wait_until


def test_stop__of_children_that_all_ignore_it__takes_one_time_and_not_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "TOGETHER_SECONDS", 3.0)
    watched = supervisor.Supervisor([], StopRequest())
    command = ["sh", "-c", "trap '' TERM; echo deaf; while true; do sleep 1; done"]
    children = [
        Child(str(place), command, tmp_path / f"{place}.log", dict(os.environ), tmp_path, stop_seconds=2.0)
        for place in range(5)
    ]
    for child in children:
        watched.start(child)
    wait_until(lambda: all("deaf" in child.last_lines() for child in children))
    began = time.monotonic()
    watched.stop()
    assert not any(child.alive for child in children)
    assert time.monotonic() - began < 9.0  # one each: ten
