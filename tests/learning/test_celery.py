"""Learning as it runs: real Celery workers and beats, racing each other, killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psutil
import pytest
from django.db import connection
from noregret.experiments.models import ChampionChange, Experiment
from noregret.learning import health
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.learning.shown import asked
from noregret.package_path import python_path
from noregret.redis_client import client, keys
from noregret.trail.models import AuditEntry

from serving.models import Decision, Reward
from tests.learning.past_traffic import WINDOW, begin_earlier, decide, fill, reward

Start = Callable[..., Experiment]


class Learners:
    """Celery workers and beats on the test's own database and Redis keys."""

    def __init__(self, settings: Any) -> None:
        database = settings.DATABASES["default"]
        host = database["HOST"].replace("/", "%2F")
        self._environment = os.environ | {
            "DATABASE_URL": f"postgresql://postgres@/{connection.settings_dict['NAME']}?host={host}",
            "REDIS_URL": settings.REDIS_URL,
            "NOREGRET_REDIS_PREFIX": settings.REDIS_PREFIX,
            **python_path(),
            "NOREGRET_LEARN_SECONDS": "0.3",
        }
        self._folder = settings.SNAPSHOT_DIR.parent
        self._started: list[subprocess.Popen[bytes]] = []

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "celery", "-A", "noregret.celery", *arguments, "--loglevel", "ERROR"]
        # Groups of their own: a worker's children die with it, also where it is killed.
        started = subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL, start_new_session=True)
        self._started.append(started)
        return started

    def worker(self, *arguments: str) -> "subprocess.Popen[bytes]":
        name = f"w{len(self._started)}@test"
        quiet = ("--concurrency", "1", "--without-gossip", "--without-mingle")
        return self._start("worker", *quiet, "-n", name, *arguments)

    def send(self, task: str, queue: str) -> None:
        command = [sys.executable, "-m", "celery", "-A", "noregret.celery", "call", task, "--queue", queue]
        subprocess.run(command, env=self._environment, stdout=subprocess.DEVNULL, check=True, timeout=60)

    def beat(self) -> "subprocess.Popen[bytes]":
        return self._start("beat", "--schedule", str(self._folder / f"beat{len(self._started)}"))

    def kill(self, started: "subprocess.Popen[bytes]") -> None:
        """kill -9, with every child."""
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()

    def stop(self) -> None:
        running = [started for started in self._started if started.poll() is None]
        for started in running:
            started.terminate()
        for started in running:
            started.wait(timeout=30)


@pytest.fixture
def learners(platform: None, settings: Any) -> Iterator[Learners]:
    made = Learners(settings)
    yield made
    made.stop()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def test_two_workers_and_two_beats__promote_exactly_once(learners: Learners, two_arms: Start) -> None:
    for _ in range(2):
        learners.worker()
        learners.beat()
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})

    def completed() -> bool:
        experiment.refresh_from_db()
        return experiment.status == "completed"

    wait_until(completed)
    time.sleep(2.0)  # further rounds of both
    assert AuditEntry.objects.filter(action="experiment.promoted", actor="learner").count() == 1
    assert ChampionChange.objects.filter(experiment=experiment, actor="learner").count() == 1
    wait_until(lambda: client().xlen(keys().decisions("pages")) == 0)
    assert ArmStatistics.objects.get(arm__name="a").decisions == 150
    assert rebuild(experiment, write=False) == []


def test_workers_killed_in_the_middle__nothing_is_lost_and_nothing_counts_twice(
    learners: Learners, two_arms: Start
) -> None:
    """kill -9, again and again, wherever it strikes: between commit and forgetting, between marks
    and sums."""
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1, "default": 0}, promotion={"auto": False})
    learners.beat()
    workers = [learners.worker() for _ in range(2)]
    sent: dict[bytes, float] = {}
    silent: set[bytes] = set()
    for turn in range(3):
        for i in range(60):
            arm = "ab"[i % 2]
            identity = decide(experiment, arm, seconds_ago=0)
            if i % 3:
                reward(experiment, arm, identity, sent.setdefault(identity, float(i % 5 == 0)))
            else:
                silent.add(identity)
        learners.kill(workers.pop(0))
        workers.append(learners.worker())
        time.sleep(0.5 + 0.3 * turn)

    def learned() -> bool:
        return sum(ArmStatistics.objects.values_list("rewards", flat=True)) == 180

    wait_until(learned)
    wait_until(lambda: ExperimentEvidence.objects.get().matured == 180)
    assert client().xlen(keys().decisions("pages")) == 0
    assert {row.id.bytes for row in Decision.objects.all()} == sent.keys() | silent
    held = {row.decision_id: (row.value, row.defaulted) for row in Reward.objects.all()}
    assert held == {UUID(bytes=key): (value, False) for key, value in sent.items()} | {
        UUID(bytes=key): (0.0, True) for key in silent
    }
    assert sum(ArmStatistics.objects.values_list("decisions", flat=True)) == 180
    assert rebuild(experiment, write=False) == []


def test_worker_that_hangs__gives_no_sign_of_life__until_it_goes_on(learners: Learners, two_arms: Start) -> None:
    two_arms()
    learners.beat()
    worker = learners.worker()
    wait_until(lambda: (health.learner().age_seconds or 99.0) < 2.0)
    group = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
    for process in group:
        process.suspend()
    time.sleep(4.0)
    age = health.learner().age_seconds
    assert age is not None
    assert age >= 3.0
    for process in group:
        process.resume()
    wait_until(lambda: (health.learner().age_seconds or 99.0) < 2.0)


def test_worker__beat_of_before__learns_from_what_it_sends(learners: Learners, two_arms: Start) -> None:
    experiment = two_arms()
    decide(experiment, "a", seconds_ago=0)
    learners.send("noregret.learning.tasks.tick", "celery")  # waits at the upgrade
    learners.worker()
    wait_until(lambda: client().xlen(keys().decisions("pages")) == 0)
    assert Decision.objects.count() == 1


def test_beat__workers_of_before__are_woken_under_the_name_and_in_the_queue_that_they_know(
    learners: Learners, two_arms: Start
) -> None:
    two_arms()
    learners.beat()
    learners.worker("--queues", "celery")
    wait_until(lambda: (health.learner().age_seconds or 99.0) < 2.0)


def test_figure__that_a_page_asks_for__a_worker_makes__once_for_all_who_look(
    learners: Learners, two_arms: Start, settings: Any
) -> None:
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 30), "b": (40, 20)})
    what = asked.evaluation_by("uniform")
    # The process of the tests has keys of its own.
    own_keys = {"global_keyprefix": f"{settings.REDIS_PREFIX}celery:"}
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, **own_keys}
    for _ in range(5):
        known = asked.look(experiment, what)
        assert (known.told, known.is_made) == (None, True)
    assert client().llen(f"{settings.REDIS_PREFIX}celery:upkeep") == 1
    learners.worker("--queues", "learn,upkeep")
    wait_until(lambda: asked.look(experiment, what, ask=False).told is not None)
    told = asked.look(experiment, what)
    assert told.told is not None
    assert told.told.evaluation is not None
    assert not told.is_made


def test_figure__while_nobody_can_be_asked__is_told_so(two_arms: Start, settings: Any) -> None:
    experiment = two_arms()
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    began = time.monotonic()
    known = asked.look(experiment, asked.evaluation_by("uniform"))
    assert (known.told, known.is_made, known.problem) == (None, False, "no worker can be asked at the moment")
    assert time.monotonic() - began < 30.0
    # The next who looks asks again.
    assert asked.look(experiment, asked.evaluation_by("uniform")).problem
