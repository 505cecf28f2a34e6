"""A whole loop on a real Redis Cluster: predict, feedback, learning, results; a server killed under
load; keys that move."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from noregret.env import BadEnvironment, Environment
from noregret.experiments.models import Experiment
from noregret.learning import health
from noregret.learning.rebuild import rebuild
from noregret.learning.sticky_units import restore, to_restore
from noregret.redis_client import client, decision_log, keys
from noregret.rollout import transitions
from noregret.steering import pending
from noregret.steering.round import learn

from serving import process as processes
from serving import redis_addresses, redis_clients
from serving.clustered_redis import slot_of
from serving.ledger.ingest import decided_at
from serving.models import Decision
from serving.process import process
from serving.redis_keys import ACCESS
from serving.streams.addresses import parse
from serving.streams.messages import CannotStart
from tests.conftest import ACTOR, Api, endpoint_of, start_experiment, static_model
from tests.redis_cluster import Cluster, running_cluster
from tests.streams.answered import check_one_answer_and_row_each, digits_experiment, request
from tests.streams.redis_streams import Streams
from tests.streams.test_redis_stream import consumer, until_quiet

ENDPOINTS = ("pages", "news", "shop", "lists")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture
def on_cluster(cluster: Cluster, platform: None, settings: Any) -> Iterator[Cluster]:
    """The platform's Redis is the cluster."""
    settings.REDIS_URL = cluster.url
    processes.reset()
    yield cluster
    processes.reset()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def experiments_on_all_shards(cluster: Cluster, **changes: Any) -> dict[str, Experiment]:
    """One an endpoint; the endpoints' keys are on all servers."""
    static_model("page", "a", {"text": "A"})
    static_model("page", "b", {"text": "B"})
    started = {}
    for name in ENDPOINTS:
        endpoint_of(name, "page@a")
        body: dict[str, Any] = {
            "name": f"of-{name}",
            "endpoint": name,
            "strategy": "bandit",
            "arms": [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}],
        }
        started[name] = start_experiment(body | changes)
    assert len({cluster.owner(keys().decisions(name)) for name in ENDPOINTS}) > 1
    return started


def decide(api: Api, name: str, **body: Any) -> dict[str, Any]:
    answer = api.post(f"/api/v1/endpoints/{name}/decide", body)
    assert answer.status == 200, answer.content
    decided: dict[str, Any] = answer.body
    return decided


def test_endpoints_on_several_servers__are_served_learned_and_shown(on_cluster: Cluster, alice: Api) -> None:
    started = experiments_on_all_shards(on_cluster, sticky=True)
    for name in ENDPOINTS:
        decided = [decide(alice, name, unit=f"u{i}") for i in range(4)]
        again = [decide(alice, name, unit=f"u{i}") for i in range(4)]
        assert [one["arm"] for one in decided] == [one["arm"] for one in again]
        for one in decided:
            sent = alice.post("/api/v1/feedback", {"decision_id": one["decision_id"], "value": 1})
            assert sent.status < 300, sent.content
        learn(started[name].endpoint_id)
        results = alice.get(f"/api/v1/experiments/of-{name}/results").body
        assert sum(arm["decisions"] for arm in results["arms"]) == 8
        assert rebuild(started[name], write=False) == []
    assert not pending.find().learn
    health.sign_of_life()
    ready = alice.get("/readyz?strict=1")
    assert ready["checks"]["redis"]["ok"], ready.content
    assert ready["checks"]["redis"]["servers"] == 3
    # Emptied, all of it: the arms of units come back from the ledger.
    for server in redis_clients.shards(client()):
        server.flushall()
    assert set(to_restore()) == {one.pk for one in started.values()}
    assert sum(restore(one.pk) for one in started.values()) == 4 * len(ENDPOINTS)


class Load:
    """Threads that decide on every endpoint. `acknowledged`: (endpoint, id) of each decision that
    was said to be learnable."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._stop = threading.Event()
        self.statuses: list[int] = []
        self.acknowledged: list[tuple[str, bytes]] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self) -> None:
        while not self._stop.is_set():
            for name in ENDPOINTS:
                answer = self._api.post(f"/api/v1/endpoints/{name}/decide", {})
                self.statuses.append(answer.status)
                if answer.status == 200 and answer["learnable"]:
                    token = process().signer.read(answer["decision_id"])
                    self.acknowledged.append((name, token.id))

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_server_killed_under_load__predict_answers__and_what_was_acknowledged_is_learned(
    on_cluster: Cluster, alice: Api
) -> None:
    started = experiments_on_all_shards(on_cluster)
    killed = on_cluster.owner(keys().decisions("pages"))
    of_killed = {name for name in ENDPOINTS if on_cluster.owner(keys().decisions(name)) == killed}
    with Load(alice) as load:
        wait_until(lambda: len(load.acknowledged) > 200)
        at = time.time()
        on_cluster.kill(killed)
        wait_until(lambda: process().spool.size > 0)
        wait_until(lambda: on_cluster.owner(keys().decisions("pages")) != killed)
        wait_until(lambda: process().spool.size == 0)
        seen = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > seen + 50)
    on_cluster.start_server(killed)
    assert set(load.statuses) == {200}
    wait_until(lambda: process().spool.size == 0)
    for experiment in started.values():
        learn(experiment.endpoint_id)
    stored = {pk.bytes for pk in Decision.objects.values_list("id", flat=True)}
    lost = [(name, one) for name, one in load.acknowledged if one not in stored]
    # What the replica did not have yet: of the killed server's endpoints, and of its last moments.
    assert {name for name, _ in lost} <= of_killed
    assert all(at - 1.0 <= decided_at(one).timestamp() <= at + 1.0 for _, one in lost)
    assert len(lost) < len(load.acknowledged) / 20
    wait_until(lambda: on_cluster.client(killed).info("replication")["role"] == "slave")


def test_server_hangs__readiness_is_told_within_the_time_of_a_probe(on_cluster: Cluster, alice: Api) -> None:
    experiments_on_all_shards(on_cluster)
    silent = on_cluster.owner(keys().learner)
    with on_cluster.hung(silent):
        ready = alice.get("/readyz")
    told = ready["checks"]
    assert not told["redis"]["serves"], "what no other process would have either takes none out"
    assert not told["redis"]["ok"]
    assert not told["learner"]["ok"]
    # Kubernetes' probe of the chart waits for five seconds, for all checks together.
    assert told["redis"]["ms"] + told["learner"]["ms"] < 4000
    wait_until(lambda: alice.get("/readyz")["checks"]["redis"]["ok"])


def test_any_server_gone__the_clock_is_asked_of_another_and_scripts_go_where_they_can(on_cluster: Cluster) -> None:
    for port in on_cluster.primaries():
        with on_cluster.gone(port):
            assert client().time()[0] > 0
            with client().pipeline(transaction=False) as pipeline:
                pipeline.time()
                for name in ENDPOINTS:
                    pipeline.exists(keys().decisions(name))
                answers = pipeline.execute(raise_on_error=False)
            assert not isinstance(answers[0], Exception)
            assert len(client().script_load("return 1")) == 40


def test_keys_that_move_to_another_server__are_followed(on_cluster: Cluster, alice: Api) -> None:
    started = experiments_on_all_shards(on_cluster)
    made = [decide(alice, "pages") for _ in range(3)]
    key = keys().decisions("pages")
    slot = slot_of(key)
    source = on_cluster.owner(key)
    target = next(port for port in on_cluster.primaries() if port != source)
    with on_cluster.moving(slot, source, target) as move:
        made += [decide(alice, "pages") for _ in range(3)]  # there is the key still
        move()
        made += [decide(alice, "pages") for _ in range(3)]  # it is gone to where the slot is going
        assert len(decision_log().read("pages", 100)) == 9
    made += [decide(alice, "pages") for _ in range(3)]
    wait_until(lambda: on_cluster.owner(key) == target)
    learn(started["pages"].endpoint_id)
    ids = {process().signer.read(one["decision_id"]).id for one in made}
    assert {pk.bytes for pk in Decision.objects.values_list("id", flat=True)} == ids
    assert process().spool.size == 0


def test_servers_gone_for_good__are_their_endpoints_trouble_alone(on_cluster: Cluster, alice: Api) -> None:
    started = experiments_on_all_shards(on_cluster, sticky=True)
    gone = on_cluster.servers_of(keys().decisions("lists"))
    assert not {*gone} & {*on_cluster.servers_of(keys().epoch), *on_cluster.servers_of(keys().snapshot(ACCESS))}
    others = [name for name in ENDPOINTS if on_cluster.owner(keys().decisions(name)) not in gone]
    for name in ENDPOINTS:
        decide(alice, name, unit="first")
        learn(started[name].endpoint_id)
    for port in gone:
        on_cluster.kill(port)
    try:
        for name in ENDPOINTS:
            made = [decide(alice, name, unit=f"u{i}") for i in range(4)]
            assert all(one["learnable"] for one in made)
        wait_until(lambda: process().spool.size > 0)
        found = pending.find()
        assert {started[name].endpoint_id for name in others} <= {*found.learn}
        assert to_restore() is not None
        for name in others:
            learn(started[name].endpoint_id)
            transitions.move(started[name], "pause", actor=ACTOR)
            wait_until(lambda name=name: decide(alice, name)["arm"] is None)  # type: ignore[misc]  # called at once
        assert Decision.objects.count() == len(ENDPOINTS) + 4 * len(others)
        with pytest.raises(redis.ConnectionError):
            learn(started["lists"].endpoint_id)
    finally:
        # Both at once, the second could be chosen in place of the first, and would not have what
        # the first had taken by then.
        for port in gone:
            on_cluster.start_server(port)
            wait_until(on_cluster.is_whole)
    wait_until(lambda: process().spool.size == 0)
    for name in {*ENDPOINTS} - {*others}:
        learn(started[name].endpoint_id)
    assert Decision.objects.count() == 5 * len(ENDPOINTS)


def test_stream_of_requests__whose_names_share_a_tag__is_answered_and_no_other_is_taken(
    on_cluster: Cluster, platform: None
) -> None:
    endpoint = digits_experiment()
    names = [f"r-{i}" for i in range(8)]
    streams = Streams()
    streams.send(*map(request, names))
    made = consumer(streams)
    until_quiet(made)
    made.close()
    check_one_answer_and_row_each(endpoint, names, streams.answers())
    with pytest.raises(CannotStart, match="one hash tag"):
        consumer(streams, sink=parse("redis:?stream=elsewhere"))


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis+cluster://:secret@one:6379,two", "redis://broker:6379/0"),
        ("redis+cluster://:secret@one:6379,two:6379/3", "redis://broker:6379/0"),
        ("redis+cluster://:secret@one:6379", ""),
        ("redis+cluster://:secret@one:6379", "redis+cluster://:secret@two:6379"),
        ("redis+cluster://:sec/ret@one:6379", "redis://broker:6379/0"),
    ],
)
def test_address_of_a_cluster__that_cannot_be_used__is_told_without_its_password(url: str, broker: str) -> None:
    with pytest.raises(BadEnvironment, match=r"was expected|were expected") as told:
        Environment.read({"REDIS_URL": url, "NOREGRET_BROKER_URL": broker})
    assert "sec" not in str(told.value)


def test_address_of_a_cluster__is_that_of_each_server() -> None:
    url = "rediss+cluster://who:a%2Cb@one:6379,[::1]:6380/?ssl_ca_certs=/ca.pem"
    found = redis_addresses.parse(url)
    assert [found.of(server) for server in found.servers] == [
        "rediss://who:a%2Cb@one:6379/0?ssl_ca_certs=/ca.pem",
        "rediss://who:a%2Cb@[::1]:6380/0?ssl_ca_certs=/ca.pem",
    ]
    assert Environment.read({"REDIS_URL": url, "NOREGRET_BROKER_URL": "redis://b/1"}).broker_url == "redis://b/1"


def test_cluster_away__is_a_redis_away_within_the_deadline() -> None:
    asked = redis_clients.client("redis+cluster://127.0.0.1:9,127.0.0.1:10", redis_clients.CONTROL)
    several = asked.pipeline(transaction=False)
    several.get("a")
    for ask in (asked.ping, lambda: asked.get("a"), several.execute):
        with pytest.raises(redis.ConnectionError):
            ask()
    hot = redis_clients.client("redis+cluster://127.0.0.1:9,127.0.0.1:11", redis_clients.STICKY)
    with pytest.raises(redis.ConnectionError, match="is known"):
        hot.get("a")
    asked.close()
    hot.close()
