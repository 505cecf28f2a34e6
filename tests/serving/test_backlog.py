"""More decisions than the learner takes: Redis stays within its bound, what was acknowledged is
kept, and nobody stops another."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
from django.core.management import call_command
from noregret.access.keys import create_key
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning.drain import drain
from noregret.redis_client import client, keys
from noregret.rollout.publish import publish_endpoint
from noregret.steering.round import learn

from serving import process as processes
from serving.deciding import Asked, decide
from serving.deciding import Decision as Answer
from serving.ledger import backlog, events
from serving.ledger.backlog import Backlog
from serving.ledger.spool import CannotSend, Spool
from serving.models import Decision
from serving.process import Process, process
from tests.conftest import ACTOR, Api, endpoint_of, start_experiment, static_model
from tests.serving.test_when_things_break import OwnRedis, own_redis, wait_for

__all__ = ["own_redis"]

Start = Callable[..., Experiment]
MEBIBYTE = 2**20
DECIDE = "/api/v1/endpoints/pages/decide"


@pytest.fixture
def two_processes(own_redis: OwnRedis, settings: Any, two_arms: Start) -> Iterator[tuple[Process, Process]]:
    """Two web processes of one machine, and an experiment that nobody learns from."""
    settings.BACKLOG_LIMIT = 400_000
    two_arms()
    parts = processes.make(), processes.make()
    yield parts
    for part in parts:
        part.close()


def decided(parts: Process, endpoint: str = "pages", **context: Any) -> Answer:
    live = parts.store.endpoint(endpoint)
    assert live is not None
    return decide(parts, live, Asked(context=context or None))


def id_of(parts: Process, answer: Answer) -> UUID:
    return UUID(bytes=parts.signer.read(answer.decision_id).id)


def learned_all(parts: Process, endpoint_id: int) -> bool:
    learn(endpoint_id)
    return parts.spool.measure() == 0 and client().xlen(keys().decisions("pages")) == 0


def test_learner_dead__redis_stays_within_its_bound__and_nothing_acknowledged_is_lost(
    two_processes: tuple[Process, Process],
) -> None:
    acknowledged: set[UUID] = set()
    most = 0
    for i in range(8000):
        parts = two_processes[i % 2]
        answer = decided(parts)
        assert answer.learnable
        acknowledged.add(id_of(parts, answer))
        if i % 200 == 0:
            for part in two_processes:
                part.backlog.look(["pages"])
            most = max(most, client().memory_usage(keys().decisions("pages")) or 0)
    # The bound, an eighth for each endpoint's own, and what came in between two looks.
    assert 400_000 < most <= 400_000 * 9 / 8 + 60_000
    assert two_processes[0].spool.measure() > 200_000
    endpoint = Endpoint.objects.get()
    assert wait_for(lambda: learned_all(two_processes[0], endpoint.pk), 40.0)
    assert {row.id for row in Decision.objects.only("id", "decided_at")} == acknowledged


def test_redis_at_its_bound__snapshots_keys_and_queues__still_go_in(
    own_redis: OwnRedis, settings: Any, two_arms: Start
) -> None:
    experiment = two_arms()
    client().config_set("maxmemory", str(16 * MEBIBYTE))
    parts = process()
    # Half of it, for nothing was set; each decision here has 20 kB of context.
    for i in range(1200):
        if i % 10 == 0:
            parts.backlog.look(["pages"])
        assert decided(parts, text="x" * 20_000).learnable
    held = client().memory_usage(keys().decisions("pages")) or 0
    assert 8 * MEBIBYTE < held <= 9 * MEBIBYTE + 250_000
    assert parts.spool.measure() > 10 * MEBIBYTE
    assert publish_endpoint(experiment.endpoint_id)
    create_key(name="dora", scopes=["predict"], actor=ACTOR)
    client().lpush(f"{settings.REDIS_PREFIX}celery:celery", b"m" * 1000)


def test_redis_full_of_other_things__decisions_wait_on_disk__and_are_shipped_when_there_is_room(
    own_redis: OwnRedis, alice: Api, two_arms: Start
) -> None:
    experiment = two_arms()
    alice.post(DECIDE, {})
    used, _ = backlog.memory(client())
    client().config_set("maxmemory", str(used // 2))
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client().set("filling", b"x")
    answers = [alice.post(DECIDE, {}) for _ in range(20)]
    assert {(answer.status, answer["learnable"]) for answer in answers} == {(200, True)}
    assert b'noregret_decisions_spooled_total{endpoint="pages",reason="full"}' in alice.get("/metrics").content
    assert process().spool.measure() > 0
    client().config_set("maxmemory", str(100 * used))
    assert wait_for(lambda: process().spool.size == 0)
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 21


def test_disk_full_and_redis_at_its_bound__answers_are_not_learnable__and_stay_so(
    own_redis: OwnRedis, settings: Any, alice: Api, two_arms: Start, tmp_path: Path
) -> None:
    settings.BACKLOG_LIMIT = 20_000
    settings.SPOOL_DIR = tmp_path / "file"
    settings.SPOOL_DIR.write_text("in the way")
    experiment = two_arms()
    first = [alice.post(DECIDE, {}) for _ in range(300)]
    kept = [answer for answer in first if answer["learnable"]]  # all, unless the process looked in between
    process().backlog.look(["pages"])
    refused = [alice.post(DECIDE, {}) for _ in range(20)]
    assert {(answer.status, answer["learnable"]) for answer in refused} == {(200, False)}
    assert b'noregret_decisions_lost_total{endpoint="pages",reason="disk"}' in alice.get("/metrics").content
    learn(experiment.endpoint_id)
    process().backlog.look(["pages"])
    assert alice.post(DECIDE, {})["learnable"]
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == len(kept) + 1


def test_one_endpoint_that_nobody_drains__others__append_and_are_shipped(
    own_redis: OwnRedis, settings: Any, alice: Api, two_arms: Start
) -> None:
    settings.BACKLOG_LIMIT = 240_000
    two_arms()
    endpoint_of("shops", static_model("shop", "a", {"text": "A"}))
    static_model("shop", "b", {"text": "B"})
    start_experiment({"name": "s", "endpoint": "shops", "strategy": "ab", "arms": [{"name": "b", "model": "shop@b"}]})
    parts = process()
    for _ in range(4800):
        decided(parts)
    parts.backlog.look(["pages", "shops"])
    assert (parts.backlog.has_room("pages"), parts.backlog.has_room("shops")) == (False, True)
    for _ in range(10):
        decided(parts)  # on disk
    parts.spool.add("shops", events.encode(event_of(decided(parts, "shops"), parts)))
    assert wait_for(lambda: client().xlen(keys().decisions("shops")) == 2)
    assert parts.spool.measure() > 0  # those of the one that has no room, no other's
    assert {name for name, _ in parts.spool.waiting().items()} == {"pages"}


def event_of(answer: Answer, parts: Process) -> events.DecisionEvent:
    token = parts.signer.read(answer.decision_id)
    return events.DecisionEvent(
        events.VERSION, token.id, token.experiment_id, token.arm_id, [0.5, 0.5], 0.5, 1, None, None, None, 1.0, None
    )


def test_many_endpoints_and_no_learner__the_shares_of_all__stay_bounded(own_redis: OwnRedis, settings: Any) -> None:
    names = [f"e{i}" for i in range(40)]
    watched = Backlog(client(), keys(), 100_000)
    for _ in range(60):
        watched.look(names)
        with client().pipeline(transaction=False) as pipeline:
            for name in names:
                if watched.has_room(name):
                    pipeline.xadd(keys().decisions(name), {b"d": b"x" * 200})
            pipeline.execute()
    total = sum(client().memory_usage(keys().decisions(name)) or 0 for name in names)
    # An empty stream takes some of its share already, and a page of entries more than what it
    # holds.
    assert 100_000 < total <= 100_000 * 9 / 8 + 40 * 5000
    assert not any(watched.has_room(name) for name in names)


def test_bound__however_full_the_rest_is__leaves_a_learner_that_keeps_up_its_part() -> None:
    maximum = 1000 * MEBIBYTE
    assert backlog.bound_of(used=0, maximum=maximum, total=0, limit=None) == 500 * MEBIBYTE
    assert backlog.bound_of(used=500 * MEBIBYTE, maximum=maximum, total=0, limit=None) == 300 * MEBIBYTE
    assert backlog.bound_of(used=950 * MEBIBYTE, maximum=maximum, total=0, limit=None) == 62.5 * MEBIBYTE
    assert backlog.bound_of(used=950 * MEBIBYTE, maximum=maximum, total=900 * MEBIBYTE, limit=None) == 500 * MEBIBYTE
    assert backlog.bound_of(used=0, maximum=maximum, total=0, limit=MEBIBYTE) == MEBIBYTE
    assert backlog.bound_of(used=0, maximum=0, total=0, limit=None) == 512 * MEBIBYTE


def test_learner__while_decisions_lie_on_a_disk__closes_no_bucket_of_theirs(
    own_redis: OwnRedis, two_arms: Start
) -> None:
    experiment = two_arms()
    parts = process()
    appended = decided(parts)
    spooled = event_of(decided(parts), parts)
    parts.shipper.close()
    client().delete(keys().decisions("pages"))
    parts.spool.add("pages", events.encode(spooled))
    at = int.from_bytes(spooled.id[:8], "big") / 1e6
    assert at > parts.signer.read(appended.decision_id).decided_at_us / 1e6
    assert drain(experiment.endpoint).until.timestamp() > at
    parts.shipper._tell()
    assert drain(experiment.endpoint).until.timestamp() == pytest.approx(at, abs=1e-6)
    assert 0 < client().ttl(keys().spooled("pages")) <= 15


SHIPS = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from serving.ledger.spool import Spool
from serving.ledger.decision_log import DecisionLog
from serving.redis_keys import Keys
log = DecisionLog(sys.argv[3], Keys(sys.argv[4]))
def send(name, bodies):
    log.append_many(name, bodies)
    time.sleep(0.02)
print("ships", flush=True)
Spool(Path(sys.argv[2]), 10**9).ship(send)
"""


def test_shipper_killed_half_way__another_ships_the_rest__each_decision_is_stored_once(
    own_redis: OwnRedis, settings: Any, two_arms: Start
) -> None:
    experiment = two_arms()
    parts = process()
    parts.shipper.close()
    spool = Spool(settings.SPOOL_DIR, 10**9)
    wanted = set()
    for _ in range(5000):
        event = event_of(decided_once := decided(parts), parts)
        wanted.add(id_of(parts, decided_once))
        spool.add("pages", events.encode(event))
    spool.close()
    stream = keys().decisions("pages")
    client().delete(stream)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", SHIPS, root, str(settings.SPOOL_DIR), own_redis.url, settings.REDIS_PREFIX],
        stdout=subprocess.PIPE,
    ) as ships:
        assert ships.stdout is not None
        ships.stdout.readline()
        assert wait_for(lambda: client().xlen(stream) > 400)
        ships.kill()
    arrived = client().xlen(stream)
    assert arrived < 5000
    # Two other web processes come upon what it left, at once.
    others = processes.make(), processes.make()
    assert wait_for(lambda: others[0].spool.measure() == 0, 20.0)
    for other in others:
        other.close()
    assert client().xlen(stream) > 5000  # some came twice
    while client().xlen(stream):
        learn(experiment.endpoint_id)
    assert {row.id for row in Decision.objects.only("id", "decided_at")} == wanted
    assert sum(arm.statistics.decisions for arm in experiment.arms.all()) == 5000


def test_spool__file_that_cant_be_read__keeps_no_other_back(tmp_path: Path) -> None:
    (tmp_path / "0-folder.spool").mkdir()
    spool = Spool(tmp_path, 10**6)
    spool.add("pages", b"event")
    shipped: list[bytes] = []
    assert spool.ship(lambda name, bodies: shipped.extend(bodies)) == 1
    assert shipped == [b"event"]


def test_spool__endpoint_that_is_refused__keeps_no_other_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**6)
    for i in range(3):
        spool.add("pages", b"p%d" % i)
        spool.add("shops", b"s%d" % i)
    shipped: list[bytes] = []

    def send(endpoint: str, bodies: list[bytes]) -> None:
        if endpoint == "pages":
            raise CannotSend("another type lies there", endpoint_only=True)
        shipped.extend(bodies)

    assert spool.ship(send) == 3
    assert shipped == [b"s0", b"s1", b"s2"]
    assert set(spool.waiting()) == {"pages"}


def test_spool__more_endpoints_than_files_it_may_open__keeps_them_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**6)
    for round_ in range(2):
        for i in range(100):
            spool.add(f"e{i}", b"%d" % round_)
    shipped: dict[str, list[bytes]] = {}
    assert spool.ship(lambda name, bodies: shipped.setdefault(name, []).extend(bodies)) == 200
    assert shipped == {f"e{i}": [b"0", b"1"] for i in range(100)}


def test_spool__file_that_has_grown__is_followed_by_another__and_they_ship_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**8)
    for i in range(2500):
        spool.add("pages", b"%06d" % i + b"x" * 1000)
    assert len(list(tmp_path.glob("*.spool"))) == 3
    order: list[int] = []
    spool.ship(lambda name, bodies: order.extend(int(body[:6]) for body in bodies))
    assert order == list(range(2500))


def test_decision_drained_after_its_reward__both__are_learned_once(
    own_redis: OwnRedis, settings: Any, alice: Api, two_arms: Start
) -> None:
    settings.BACKLOG_LIMIT = 4000
    experiment = two_arms()
    parts = process()
    alice.post(DECIDE, {})  # an entry alone takes a page of memory, and is past this bound
    parts.backlog.look(["pages"])
    decision = alice.post(DECIDE, {})["decision_id"]
    assert parts.spool.measure() > 0
    assert alice.post("/api/v1/feedback", {"decision_id": decision, "value": 1}).status == 202
    learn(experiment.endpoint_id)
    assert sum(arm.statistics.rewards for arm in experiment.arms.all()) == 1
    assert wait_for(lambda: learned_all(parts, experiment.endpoint_id))
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 2
    assert sum(arm.statistics.rewards for arm in experiment.arms.all()) == 1
    assert sum(arm.statistics.decisions for arm in experiment.arms.all()) == 2


def doctors(capsys: pytest.CaptureFixture[str]) -> dict[str, bool]:
    """What `doctor` says of the backlog, and whether that is well."""
    with contextlib.suppress(SystemExit):  # no admin exists here
        call_command("doctor")
    said = [line for line in capsys.readouterr().out.splitlines() if "  backlog: " in line]
    return {line.partition("  backlog: ")[2]: line.startswith("ok") for line in said}


def test_doctor__tells_of_a_backlog_in_redis_and_on_disk(
    own_redis: OwnRedis, settings: Any, two_arms: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.BACKLOG_LIMIT = 100_000
    settings.SPOOL_LIMIT = 40_000
    two_arms()
    assert doctors(capsys) == {
        "0 decisions wait in Redis, 0.0 MB where 0 MB is the bound": True,
        "0.0 MB of decisions wait on this machine's disk, 0 MB is the limit": True,
    }
    client().config_set("maxmemory", str(16 * MEBIBYTE))
    parts = process()
    for i in range(2000):
        if i % 100 == 0:
            parts.backlog.look(["pages"])
        decided(parts)
    (waiting, well), (spooled, spool_well) = doctors(capsys).items()
    entries = client().xlen(keys().decisions("pages"))
    assert waiting.startswith(f"{entries:,} decisions wait in Redis, 0.1 MB where 0 MB is the bound, 0.")
    assert "of its maxmemory; the oldest for " in waiting
    assert "is the learner running?" in waiting
    assert not well
    assert not spool_well
    assert "wait on this machine's disk" in spooled
