"""Figures that people look at come from a streaming replica, while it is near enough, and from the
primary otherwise."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections
from django.test import Client
from noregret.experiments.models import Experiment
from noregret.rest import replica as reading
from noregret.rollout.transitions import move
from noregret.steering.round import learn

from serving.models import Decision
from tests.conftest import ACTOR, Api
from tests.learning.past_traffic import WINDOW, begin_earlier, fill
from tests.replica import Replica, running_replica
from tests.serving.test_when_things_break import wait_for

Start = Callable[..., Experiment]


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[Replica]:
    with running_replica() as running:
        yield running


@pytest.fixture
def replica(server: Replica, platform: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replica]:
    """The settings name it, as NOREGRET_REPLICA_URL would."""
    primary = connection.settings_dict
    named = primary | {"HOST": str(server.sockets), "OPTIONS": primary["OPTIONS"] | {"connect_timeout": "2"}}
    monkeypatch.setitem(connections.databases, "replica", named)
    there = connections["replica"]

    def connect() -> None:  # which Django refuses to tests for what was no database when they began
        if there.connection is None:
            with there.wrap_database_errors:
                there.connect()

    monkeypatch.setattr(there, "ensure_connection", connect)
    monkeypatch.setattr(reading, "_watch", reading._Watch())
    monkeypatch.setattr(reading, "_MEASURE_SECONDS", 0.05)
    monkeypatch.setattr(reading, "_PAUSE_SECONDS", 0.5)
    yield server
    there.close()
    del connections["replica"]


@pytest.fixture
def read_there(monkeypatch: pytest.MonkeyPatch, replica: Replica) -> Iterator[list[str]]:
    """The statements that the replica is sent."""
    sent: list[str] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        sent.append(sql)
        return execute(sql, params, many, context)

    with connections["replica"].execute_wrapper(note):
        yield sent


def figures_there(sent: list[str]) -> bool:
    return any("learning_armstatistics" in sql for sql in sent)


def caught_up(replica: Replica) -> None:
    def is_equal() -> bool:
        found = reading.state()
        return found is not None and found.problem is None and found.lag_seconds == 0.0

    assert wait_for(is_equal, 30.0), reading.state()


def results(api: Api) -> dict[str, Any]:
    time.sleep(1.1)  # an answer is told again for a second
    answer = api.get("/api/v1/experiments/e/results")
    assert answer.status == 200, answer.content
    told: dict[str, Any] = answer.body
    return told


def test_results__come_from_the_replica_as_they_are__and_never_behind_what_somebody_did(
    replica: Replica, alice: Api, two_arms: Start, read_there: list[str]
) -> None:
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 60), "b": (40, 60)})
    learn(experiment.endpoint_id)
    caught_up(replica)
    told = results(alice)
    assert figures_there(read_there)
    assert [arm["decisions"] for arm in told["arms"]] == [90, 100]
    replica.run("SELECT pg_wal_replay_pause()")
    try:
        assert wait_for(lambda: replica.run("SELECT pg_get_wal_replay_pause_state()") == "paused")
        # What is learned may be behind.
        fill(experiment, {"a": (1, 5)})
        learn(experiment.endpoint_id)
        read_there.clear()
        assert [arm["decisions"] for arm in results(alice)["arms"]] == [90, 100]
        assert figures_there(read_there)
        # What was done is not.
        move(experiment, "pause", actor=ACTOR)
        read_there.clear()
        told = results(alice)
        assert told["status"] == "paused"
        assert not figures_there(read_there)
        assert [arm["decisions"] for arm in told["arms"]] == [96, 100]
    finally:
        replica.run("SELECT pg_wal_replay_resume()")


def test_replica_too_far_behind_or_away__primary_answers__and_it_is_told(
    replica: Replica, alice: Api, two_arms: Start, read_there: list[str], settings: Any
) -> None:
    settings.REPLICA_LAG_SECONDS = 1.0
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 60), "b": (40, 60)})
    learn(experiment.endpoint_id)
    caught_up(replica)
    replica.run("SELECT pg_wal_replay_pause()")
    try:
        assert wait_for(lambda: replica.run("SELECT pg_get_wal_replay_pause_state()") == "paused")
        fill(experiment, {"a": (1, 5)})
        learn(experiment.endpoint_id)
        assert wait_for(lambda: (found := reading.state()) is not None and found.problem is not None, 20.0)
        assert [arm["decisions"] for arm in results(alice)["arms"]] == [96, 100]
        assert "behind" in alice.get("/readyz")["checks"]["replica"]["problem"]
        assert b"noregret_replica_lag_seconds" in alice.get("/metrics").content
    finally:
        replica.run("SELECT pg_wal_replay_resume()")
    caught_up(replica)
    results(alice)
    replica.stop()
    try:
        assert [arm["decisions"] for arm in results(alice)["arms"]] == [96, 100]
        page = overview()
        assert "from the primary, not from the replica" in page
        assert alice.get("/readyz").status == 200
    finally:
        replica.start()
    caught_up(replica)
    assert "The replica that figures are read from is" in overview()
    read_there.clear()
    results(alice)


def overview() -> str:
    client = Client()
    client.force_login(get_user_model().objects.filter(is_superuser=True).first() or _admin())
    return client.get("/admin/").content.decode()


def _admin() -> Any:
    return get_user_model().objects.create_superuser("root", "", "of-these-tests-alone")


def test_server_that_takes_writes_of_its_own__is_no_replica(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setitem(connections["replica"].settings_dict, "HOST", connection.settings_dict["HOST"])
    connections["replica"].close()
    found = reading.state()
    assert found is not None
    assert found.problem is not None
    assert "no replica" in found.problem


def test_whoever_decides__reads_the_primary(replica: Replica, two_arms: Start, read_there: list[str]) -> None:
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (3, 12), "b": (13, 12)})
    caught_up(replica)
    read_there.clear()
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 40
    assert read_there == []
