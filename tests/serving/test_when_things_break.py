"""What serving does while a server is away, and what it keeps."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from noregret.embedded.child import Child
from noregret.embedded.redis_server import binary
from noregret.experiments.models import Experiment
from noregret.redis_client import client
from noregret.steering.round import learn

from serving import process as processes
from serving.ledger import spool as spools
from serving.ledger.spool import CannotSend, Spool, SpoolFull
from serving.models import Decision
from serving.process import process
from serving.store import SnapshotStore
from tests.conftest import Api

Start = Callable[..., Experiment]
DECIDE = "/api/v1/endpoints/pages/decide"


class OwnRedis:
    """A Redis of one test, to be stopped, paused and killed."""

    def __init__(self, folder: Path) -> None:
        self.url = f"unix://{folder}/r.sock"
        self.child = Child(
            name="redis",
            command=[str(binary()), "--port", "0", "--unixsocket", f"{folder}/r.sock", "--dir", str(folder), "--appendonly", "yes"],
            log=folder / "redis.log",
            environment={"LC_ALL": "C"},
            cwd=folder,
        )  # fmt: skip

    def start(self) -> None:
        import redis

        self.child.start()
        probe = redis.Redis.from_url(self.url)
        for _ in range(200):
            try:
                if probe.ping():
                    return
            except redis.RedisError:
                time.sleep(0.02)
        raise AssertionError(self.child.last_lines())

    def kill(self) -> None:
        assert self.child.process is not None
        self.child.process.kill()
        self.child.process.wait()

    @property
    def process(self) -> psutil.Process:
        assert self.child.pid is not None
        return psutil.Process(self.child.pid)


@pytest.fixture
def own_redis(settings: Any) -> Iterator[OwnRedis]:
    import shutil
    import tempfile

    # Short, for a socket's path has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="nr-redis-"))
    server = OwnRedis(folder)
    server.start()
    settings.REDIS_URL = server.url
    yield server
    server.child.stop()
    shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_redis_killed__predict_goes_on__spools__and_ships_when_it_is_back(
    own_redis: OwnRedis, alice: Api, two_arms: Start
) -> None:
    experiment = two_arms()
    before = [alice.post(DECIDE, {})["decision_id"] for _ in range(5)]
    own_redis.kill()
    time.sleep(1.2)
    during = [alice.post(DECIDE, {}) for _ in range(20)]
    assert [answer.status for answer in during] == [200] * 20
    assert all(answer["learnable"] for answer in during)
    assert during[-1]["stale"] is True
    assert process().spool.size > 0
    own_redis.start()
    assert wait_for(lambda: process().spool.size == 0)
    assert alice.post(DECIDE, {})["stale"] is False
    learn(experiment.endpoint_id)
    lines = alice.get("/api/v1/experiments/e/decisions.ndjson").content.splitlines()
    import json

    stored = {json.loads(line)["decision_id"] for line in lines}
    acknowledged = set(before) | {answer["decision_id"] for answer in during}
    assert acknowledged <= stored
    assert Decision.objects.count() == 26


def test_redis_silent__predict_does_not_wait_for_it(own_redis: OwnRedis, alice: Api, two_arms: Start) -> None:
    two_arms()
    alice.post(DECIDE, {})
    own_redis.process.suspend()
    try:
        for _ in range(5):
            assert alice.post(DECIDE, {}).status == 200  # or it would wait for ever
    finally:
        own_redis.process.resume()


def test_spool_full__decision_is_answered_and_not_learnable(
    own_redis: OwnRedis, alice: Api, two_arms: Start, settings: Any
) -> None:
    settings.SPOOL_LIMIT = 0
    two_arms()
    alice.post(DECIDE, {})
    own_redis.kill()
    answer = alice.post(DECIDE, {})
    assert (answer.status, answer["learnable"]) == (200, False)


def test_restart_while_redis_is_away__serves_from_disk(own_redis: OwnRedis, alice: Api, two_arms: Start) -> None:
    two_arms()
    first = alice.post(DECIDE, {})
    own_redis.kill()
    processes.reset()
    answer = alice.post(DECIDE, {})
    assert (answer.status, answer["stale"], answer["experiment"]) == (200, True, "e")
    assert answer["policy_version"] == first["policy_version"]


def test_postgresql_away__feedback_is_503_and_decide_goes_on(alice: Api, two_arms: Start, tmp_path: Path) -> None:
    from django.db import connection

    from serving.ledger.rewards import RewardWriter

    two_arms()
    decision = alice.post(DECIDE, {})["decision_id"]
    parts = process()
    parts.rewards.close()
    away = RewardWriter(connection.settings_dict | {"HOST": str(tmp_path / "nowhere")}, size=2)
    object.__setattr__(parts, "rewards", away)
    answer = alice.post("/api/v1/feedback", {"decision_id": decision, "value": 1})
    assert answer.status == 503
    assert int(answer.response["Retry-After"]) > 0
    assert alice.post(DECIDE, {}).status == 200
    away.close()


def test_damaged_snapshot__leaves_its_predecessor_serving(alice: Api, two_arms: Start) -> None:
    from noregret.redis_client import keys

    two_arms()
    assert alice.post(DECIDE, {})["experiment"] == "e"
    client().hset(keys().snapshot("pages"), "body", b"\xc1 damaged")
    client().zadd(keys().changed, {"pages": float(client().incr(keys().sequence))})
    process().store.refresh()
    assert alice.post(DECIDE, {})["experiment"] == "e"


def test_learner_silent__answers_say_stale(alice: Api, two_arms: Start, settings: Any) -> None:
    from noregret.learning.health import sign_of_life

    settings.STALE_SECONDS = 0.5
    two_arms()
    sign_of_life()
    process().store.refresh()
    assert alice.post(DECIDE, {})["stale"] is False
    assert wait_for(lambda: bool(alice.post(DECIDE, {})["stale"]))
    sign_of_life()
    assert wait_for(lambda: not alice.post(DECIDE, {})["stale"])


def test_store__unknown_name__asks_redis_at_once(two_arms: Start) -> None:
    store: SnapshotStore = process().store
    assert store.endpoint("pages") is None
    two_arms()
    time.sleep(0.05)
    assert store.endpoint("pages") is not None


def test_spool__file_of_a_dead_process_with_a_torn_tail__ships_what_is_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000)
    for i in range(3):
        spool.add("pages", b"event %d" % i)
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    with path.open("ab") as file:
        file.write(path.read_bytes()[:9])
    shipped: list[tuple[str, bytes]] = []
    assert Spool(tmp_path, 10_000).ship(lambda name, bodies: shipped.extend((name, body) for body in bodies)) == 3
    assert shipped == [("pages", b"event %d" % i) for i in range(3)]
    assert list(tmp_path.glob("*.spool")) == []


def test_spool__file_of_a_living_process__is_left_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000)
    spool.add("pages", b"event")
    assert Spool(tmp_path, 10_000).ship(lambda endpoint, body: None) == 0
    assert len(list(tmp_path.glob("*.spool"))) == 1
    spool.close()


def test_spool__failure_half_way__keeps_the_file_and_its_size(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    spool.add("pages", b"x" * 40)

    def fails(endpoint: str, bodies: list[bytes]) -> None:
        raise CannotSend("Redis is away")

    with pytest.raises(CannotSend):
        spool.ship(fails)
    assert spool.size > 0
    with pytest.raises(SpoolFull):
        spool.add("pages", b"x" * 60)
    assert spools.SUFFIX == ".spool"
    assert os.listdir(tmp_path)
