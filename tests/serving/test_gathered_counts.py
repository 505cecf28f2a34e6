"""Counts that are gathered: none is lost with a thread, at a stop, or between two processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from noregret import variables
from noregret.embedded import services
from noregret.experiments.models import Experiment
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector

from serving.gathering import Gathering, SummedHistogram
from tests.serving.test_refused_bodies import DECIDE, _answers, _database_url, bearer
from tests.serving.test_when_things_break import wait_for

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("noregret_decisions_total", "noregret_predict_seconds_count", "noregret_predict_seconds_sum")
LABELS = {"endpoint": "pages", "arm": "a", "fallback_reason": ""}

COUNTING = """
import os, signal, sys, time
sys.path[:0] = [{root!r}, {root!r} + "/platform"]
os.environ["DJANGO_SETTINGS_MODULE"] = "noregret.settings"
from serving.gathering import Gatherer
from serving.metrics import GATHERING
def count():
    for _ in range({count}):
        GATHERING.note("pages", "a", "", 0.25)
{ending}
"""
ENDINGS = {
    "returns": "count()",
    # As a web process does: its own ending is multiprocessing's.
    "child": """
import multiprocessing
child = multiprocessing.get_context("fork").Process(target=count)
GATHERING.note("pages", "a", "", 0.25)  # the parent's, and counted there alone
child.start()
child.join()
""",
    "killed": """
Gatherer(GATHERING).start()
count()
time.sleep(2.5)
os.kill(os.getpid(), signal.SIGKILL)
""",
}


def counted(folder: Path) -> list[float]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]  # left untyped there
    values = [registry.get_sample_value(NAMES[0], LABELS)]
    values += [registry.get_sample_value(name, {"endpoint": "pages"}) for name in NAMES[1:]]
    return [value or 0.0 for value in values]


def process(folder: Path, count: int, ending: str) -> "subprocess.Popen[bytes]":
    code = COUNTING.format(root=str(ROOT), count=count, ending=ENDINGS[ending])
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


@pytest.mark.parametrize(
    ("ending", "code", "more"), [("returns", 0, 0), ("child", 0, 1), ("killed", -signal.SIGKILL, 0)]
)
def test_counts__of_two_processes_that_end__add_up(tmp_path: Path, ending: str, code: int, more: int) -> None:
    processes = [process(tmp_path, count, ending) for count in (30, 400)]
    assert [one.wait(30) for one in processes] == [code, code]
    expected = 430 + 2 * more
    assert counted(tmp_path) == [expected, expected, expected / 4]


def test_counts__of_web_processes_that_are_told_to_end__are_all_there(
    two_arms: Callable[..., Experiment], settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_arms()
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv(variables.REDIS_PREFIX, settings.REDIS_PREFIX)
    monkeypatch.setenv(variables.DATABASE_URL, _database_url())
    child = services.web("127.0.0.1", port, 2)
    child.log = tmp_path / "web.log"
    child.start()
    url, headers = f"http://127.0.0.1:{port}", bearer()
    try:
        assert wait_for(lambda: _answers(url), 60.0), child.last_lines()
        for _ in range(20):  # each on a connection of its own, for any process to take
            assert httpx.post(url + DECIDE, json={}, headers=headers).status_code == 200
    finally:
        child.stop()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(settings.DATA_DIR / "metrics"))  # type: ignore[no-untyped-call]
    assert registry.get_sample_value("noregret_predict_seconds_count", {"endpoint": "pages"}) == 20


def gathering() -> tuple[Gathering, CollectorRegistry]:
    registry = CollectorRegistry()
    decisions = Counter("d", "d", ["endpoint", "arm", "reason"], registry=registry)
    return Gathering(decisions, SummedHistogram("s", "s", ["endpoint"], registry=registry, buckets=(1, 2))), registry


def test_counts__of_threads_that_end_while_others_add_up__are_all_there() -> None:
    notes, registry = gathering()

    def count(arm: str) -> None:
        for _ in range(5000):
            notes.note("e", arm, "", 1.0)

    threads = [threading.Thread(target=count, args=(f"arm-{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        notes.flush()
    notes.flush()
    for i in range(4):
        assert registry.get_sample_value("d_total", {"endpoint": "e", "arm": f"arm-{i}", "reason": ""}) == 5000
    assert registry.get_sample_value("s_count", {"endpoint": "e"}) == 20_000


def test_counts__that_nobody_adds_up__do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.gathering.MOST", 10)
    notes, registry = gathering()
    for _ in range(25):
        notes.note("e", "", "", 0.0)
    assert registry.get_sample_value("d_total", {"endpoint": "e", "arm": "", "reason": ""}) == 22


def test_histogram__of_many_at_once__is_that_of_each() -> None:
    amounts = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 99.0]
    one, all_at_once = (
        SummedHistogram("s", "s", registry=registry, buckets=(1, 2))
        for registry in (CollectorRegistry(), CollectorRegistry())
    )
    for amount in amounts:
        one.observe(amount)
    all_at_once.observe_all(amounts)
    samples = [
        {(sample.name, sample.labels.get("le")): sample.value for family in kind.collect() for sample in family.samples}
        for kind in (one, all_at_once)
    ]
    assert samples[0]["s_bucket", "+Inf"] == 7
    for name, value in samples[0].items():
        assert name[0] == "s_created" or samples[1][name] == value
