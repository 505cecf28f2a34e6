"""What is wrong with one endpoint is told as its own, and the one beside it is served, learned for,
published and promoted."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from django.test import Client
from noregret.embedded.management.commands import doctor
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning import health
from noregret.learning.locks import endpoint_lock
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.redis_client import client, keys
from noregret.registry.models import ModelVersion
from noregret.rollout.publish import publish_endpoint_on_commit
from noregret.steering import failing, pending, tasks

from serving.process import process
from serving.snapshot import decode_endpoint
from tests.conftest import Api, endpoint_of, python_model, start_experiment, static_model
from tests.learning.past_traffic import begin_earlier, decide, fill

SICK, WELL = "sick", "well"
DECIDE = "/api/v1/endpoints/{}/decide"
_PROMOTES = {"rule": "anytime", "min_rewards": 10, "auto": True}


def start(endpoint: str, **changes: Any) -> Experiment:
    """A bandit of the arms a and b, on an endpoint of its own name."""
    for version in "ab":
        if not ModelVersion.objects.filter(name=endpoint, version=version).exists():
            static_model(endpoint, version, {"text": version})
    if not Endpoint.objects.filter(name=endpoint).exists():
        endpoint_of(endpoint, f"{endpoint}@a")
    body = {
        "name": f"on-{endpoint}",
        "endpoint": endpoint,
        "strategy": "bandit",
        "arms": [{"name": name, "model": f"{endpoint}@{name}"} for name in "ab"],
        "reward": {"kind": "binary", "window_seconds": 1},
        "promotion": _PROMOTES,
    }
    return start_experiment({name: value for name, value in (body | changes).items() if value is not None})


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """One tick, and the rounds that it wakes, each as a worker would do it: what one raises ends
    its own task."""
    woken: list[int] = []
    monkeypatch.setattr(tasks.learn_endpoint, "apply_async", lambda args, expires: woken.append(*args))

    def call() -> None:
        tasks.tick.run()
        while woken:
            with contextlib.suppress(Exception):
                tasks.learn_endpoint.run(woken.pop(0))

    return call


def long_ago(seconds: float = 60.0) -> None:
    """As if what fails had failed for so long."""
    for field, body in client().hgetall(keys().failing).items():
        since, last, tries, why = msgspec.msgpack.decode(body)
        client().hset(
            keys().failing, field, msgspec.msgpack.encode(failing.Failure(since - seconds, last - seconds, tries, why))
        )


def unpublishable(experiment: Experiment) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(policy={"name": "nobody-knows", "params": {}})
    _change(experiment)


def learning_raises(experiment: Experiment) -> None:
    ExperimentEvidence.objects.filter(experiment=experiment).update(state={"rule": "nobody-knows"})


def damaged(experiment: Experiment) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(reward={"metric": "reward", "window_seconds": "a while"})
    _change(experiment)


def stream_of_another_kind(experiment: Experiment) -> None:
    client().delete(keys().decisions(experiment.endpoint.name))
    client().set(keys().decisions(experiment.endpoint.name), b"no stream")


def snapshot_of_another_kind(experiment: Experiment) -> None:
    client().delete(keys().snapshot(experiment.endpoint.name))
    client().set(keys().snapshot(experiment.endpoint.name), b"no hash")
    _change(experiment)


def schedule_that_is_no_time(experiment: Experiment) -> None:
    schedule = {"start_at": None, "end_at": "soon", "max_seconds": None, "at_end": "stop"}
    Experiment.objects.filter(pk=experiment.pk).update(schedule=schedule)


def _change(experiment: Experiment) -> None:
    """A change of what is served, by whoever is killed before it is published."""
    from django.db.models import F

    Endpoint.objects.filter(pk=experiment.endpoint_id).update(policy_version=F("policy_version") + 1)


@pytest.mark.parametrize(
    ("sicken", "why"),
    [
        (unpublishable, "its snapshot can't be published"),
        (learning_raises, "its rounds fail"),
        (damaged, "its snapshot can't be published"),
        (stream_of_another_kind, "its rounds fail"),
        (schedule_that_is_no_time, "its rounds fail"),
    ],
)
def test_one_sick_endpoint__is_told_as_its_own__and_the_other_learns_serves_and_promotes(
    alice: Api, rounds: Callable[[], None], sicken: Callable[[Experiment], None], why: str
) -> None:
    sick, well = start(SICK), start(WELL)
    begin_earlier(well)
    fill(sick, {"a": (5, 5), "b": (5, 5)})
    fill(well, {"a": (20, 280), "b": (280, 20)})
    sicken(sick)
    rounds()
    long_ago()
    for _ in range(2):
        rounds()

    told = health.learner()
    assert told.age_seconds == pytest.approx(0.0, abs=2.0)
    assert set(told.lagging) == {SICK}
    assert why in told.lagging[SICK].why
    assert told.lagging[SICK].seconds > 55.0
    # The other is learned for, and its winner is champion.
    well.refresh_from_db()
    assert (well.status, well.outcome) == ("completed", "promoted")
    assert well.promoted_arm is not None and well.promoted_arm.name == "b"  # noqa: PT018
    assert sum(ArmStatistics.objects.filter(arm__experiment=well).values_list("rewards", flat=True)) == 600
    held = decode_endpoint(client().hget(keys().snapshot(WELL), "body"))  # type: ignore[arg-type]
    assert held.version == Endpoint.objects.get(name=WELL).policy_version
    # Both are served; answers say which is stale.
    process().store.refresh()
    assert [alice.post(DECIDE.format(name))["stale"] for name in (SICK, WELL)] == [True, False]
    # And everybody is told which it is.
    ready = alice.get("/readyz")
    assert (ready.status, ready["status"]) == (200, "ready, with troubles")
    assert set(ready["checks"]["learner"]["lagging"]) == {SICK}
    assert alice.get("/readyz?strict=1").status == 503
    metrics = alice.get("/metrics").content.decode()
    assert 'noregret_learner_behind_seconds{endpoint="well"} 0.0\n' in metrics
    behind = next(line for line in metrics.splitlines() if line.startswith(_BEHIND + '{endpoint="sick"}'))
    assert float(behind.split()[-1]) > 55.0
    assert alice.get("/api/v1/experiments/on-well/results")["learner"]["ok"]
    first, *others = doctor._learner()
    assert first[0]
    assert [(good, said.startswith("is behind with sick by ")) for good, said in others] == [(False, True)]


_BEHIND = "noregret_learner_behind_seconds"


_BINARY = {"kind": "binary", "window_seconds": 1}
_BY_HAND = {"auto": False}
STRATEGIES: dict[str, dict[str, Any]] = {
    "shadow": {"strategy": "shadow", "shadow": {"sample": 1.0}, "promotion": None},
    "canary": {"strategy": "canary", "canary": {"steps": [0.5], "auto": False}, "promotion": _BY_HAND},
    "ab": {"strategy": "ab", "promotion": _BY_HAND},
    "default": {"reward": _BINARY | {"default": 0}},
    "exposure": {"reward": _BINARY | {"default": 0, "pending": "exposure"}},
    "sticky": {"sticky": True},
    "holdout": {"holdout": 0.2},
    "forgets": {"policy": {"name": "thompson", "params": {"discount": 0.99}}},
    "counts its pulls": {"policy": {"name": "ucb1"}},
    "contextual": {
        "policy": {"name": "lin-thompson"},
        "context": {"fields": [{"name": "country", "type": "category", "values": ["KR", "US"]}]},
    },
}


@pytest.mark.parametrize("changes", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_sick_endpoint__whatever_runs_there__is_told_alone(
    alice: Api, rounds: Callable[[], None], changes: dict[str, Any]
) -> None:
    sick, well = (start(name, **changes) for name in (SICK, WELL))
    for experiment in (sick, well):
        begin_earlier(experiment)
        fill(experiment, {"a": (6, 4), "b": (5, 5)})
        decide(experiment, "b", failed=True)
    learning_raises(sick)
    ExperimentEvidence.objects.filter(experiment=sick).update(learned={"nobody": "knows"}, answers={"rule": "none"})
    rounds()
    long_ago()
    rounds()
    assert set(health.learner().lagging) == {SICK}
    assert "its rounds fail" in health.learner().lagging[SICK].why
    totals = ArmStatistics.objects.filter(arm__experiment=well)
    assert sum(totals.values_list("decisions", flat=True)) == 21
    assert sum(totals.values_list("rewards", flat=True)) == 20
    process().store.refresh()
    assert [alice.post(DECIDE.format(name))["stale"] for name in (SICK, WELL)] == [True, False]
    shown = alice.get("/api/v1/experiments/on-well/results")
    assert (shown.status, shown["rewards"], shown["learner"]["ok"]) == (200, 20, True)


def test_sick_endpoint__mended__is_well_again(alice: Api, rounds: Callable[[], None]) -> None:
    experiment = start(SICK)
    fill(experiment, {"a": (5, 5), "b": (5, 5)})
    learning_raises(experiment)
    rounds()
    long_ago()
    rounds()
    assert set(health.learner().lagging) == {SICK}
    shown = alice.get("/api/v1/experiments/on-sick/results")
    ExperimentEvidence.objects.filter(experiment=experiment).update(state={})
    rounds()
    rounds()
    assert health.learner().lagging == {}
    shown = alice.get("/api/v1/experiments/on-sick/results")["learner"]
    assert (shown["ok"], shown["behind_seconds"], shown["why"], shown["set_aside"]) == (True, 0.0, None, 0)


def test_publication_that_fails__is_tried_more_and_more_rarely__and_mended_by_a_change(
    alice: Api, rounds: Callable[[], None]
) -> None:
    experiment = start(SICK)
    policy = experiment.policy
    unpublishable(experiment)
    rounds()
    assert pending.find().publish == []  # it rests, and is known to be behind
    assert [lag.why[:62] for lag in pending.find().behind[SICK]] == [
        "its snapshot can't be published: ValueError: policy is 'nobody"
    ]
    long_ago(3.0)
    assert pending.find().publish == [experiment.endpoint_id]
    Experiment.objects.filter(pk=experiment.pk).update(policy=policy)
    with transaction.atomic():
        publish_endpoint_on_commit(experiment.endpoint_id)
    rounds()
    assert pending.find().behind == {}
    assert client().hgetall(keys().failing) == {}


def test_endpoints_behind__all_others_rest__are_told_by_what_waits(platform: None) -> None:
    """Nobody does the rounds: what waits, and for how long, is found without anybody who fails."""
    sick, well = start(SICK), start(WELL)
    at = f"{int((time.time() - 60) * 1000)}-0"
    client().xadd(keys().decisions(SICK), {"d": b"x"}, id=at)
    decide(well, "a")
    found = pending.find()
    assert found.learn == sorted([sick.endpoint_id, well.endpoint_id])
    assert set(found.lagging) == {SICK}
    assert found.lagging[SICK].why == "decisions wait to be written to the ledger"
    assert found.lagging[SICK].seconds == pytest.approx(60.0, abs=5.0)


def test_round_that_hangs__is_behind_by_what_waits_for_it(alice: Api, rounds: Callable[[], None]) -> None:
    sick, well = start(SICK), start(WELL)
    client().xadd(keys().decisions(SICK), {"d": b"x"}, id=f"{int((time.time() - 60) * 1000)}-0")
    fill(well, {"a": (5, 5), "b": (5, 5)})
    with another_holds(sick.endpoint_id):
        rounds()
        rounds()
        assert set(health.learner().lagging) == {SICK}
        process().store.refresh()
        assert [alice.post(DECIDE.format(name))["stale"] for name in (SICK, WELL)] == [True, False]
        assert sum(ArmStatistics.objects.filter(arm__experiment=well).values_list("rewards", flat=True)) == 20
    rounds()
    rounds()
    assert health.learner().lagging == {}


def another_holds(endpoint_id: int) -> AbstractContextManager[None]:
    """Another worker is at this endpoint's round, and does not come back."""
    return in_another_thread(lambda: endpoint_lock(endpoint_id))


def another_holds_row(endpoint_id: int) -> AbstractContextManager[None]:
    """Another transaction has locked this endpoint's row, and does not end."""

    @contextmanager
    def hold() -> Iterator[None]:
        with transaction.atomic():
            Endpoint.objects.select_for_update().get(pk=endpoint_id)
            yield

    return in_another_thread(hold)


@contextmanager
def in_another_thread(held: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with held():
                begun.set()
                over.wait(30.0)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert begun.wait(10.0)
        yield
    finally:
        over.set()
        thread.join()


def test_challenger_that_does_not_load__is_that_experiments_alone(alice: Api, rounds: Callable[[], None]) -> None:
    static_model(SICK, "a", {"text": "a"})
    python_model(SICK, "b", "sums")
    ModelVersion.objects.filter(name=SICK, version="b").update(callable="tests.callables.gone")
    sick, well = start(SICK), start(WELL)
    fill(sick, {"a": (5, 5), "b": (5, 5)})
    fill(well, {"a": (5, 5), "b": (5, 5)})
    rounds()
    rounds()
    assert health.learner().lagging == {}
    for experiment in (sick, well):
        assert sum(ArmStatistics.objects.filter(arm__experiment=experiment).values_list("rewards", flat=True)) == 20
    answers = [alice.post(f"/api/v1/endpoints/{name}/predict", {"inputs": [[1.0]]}) for name in (SICK, WELL) * 8]
    assert {(answer.status, answer["stale"]) for answer in answers} == {(200, False)}
    assert {answer["fallback_reason"] for answer in answers if answer["endpoint"] == WELL} == {None}
    ready = alice.get("/readyz")
    assert (ready.status, set(ready["checks"]["challengers"]["not_loaded"])) == (200, {"sick/b"})


def test_endpoint_behind__home_page__names_it_and_shows_the_others(
    permissions: None, admin_user: Any, rounds: Callable[[], None]
) -> None:
    sick, well = start(SICK), start(WELL)
    fill(well, {"a": (5, 5), "b": (5, 5)})
    fill(sick, {"a": (5, 5), "b": (5, 5)})
    learning_raises(sick)
    rounds()
    long_ago()
    rounds()
    page = Client()
    page.force_login(admin_user)
    shown = page.get("/admin/")
    assert shown.status_code == 200
    text = shown.content.decode()
    assert re.search(r"sick is behind by (6\d s|1 min): its rounds fail", text)
    assert "figures can&#x27;t be told" in text
    assert "on-well" in text and "20 decisions" in text  # noqa: PT018


def test_guardrails__stream_that_is_behind__act_on_what_is_in_the_ledger(
    alice: Api, rounds: Callable[[], None]
) -> None:
    """The drain is behind, or nobody knows how far it is: a worse arm is not served the longer for
    that."""
    experiment = start(
        SICK,
        guardrails=[{"metric": "error_rate", "max": 0.05, "action": "disable_arm", "min_decisions": 20}],
        promotion={"auto": False},
    )
    for i in range(120):
        decide(experiment, "ab"[i % 2], failed=bool(i % 2))
    from noregret.learning.drain import drain

    drain(experiment.endpoint)
    stream_of_another_kind(experiment)
    rounds()
    assert not Arm.objects.get(experiment=experiment, name="b").enabled
    assert Experiment.objects.get(pk=experiment.pk).status == "running"


def test_guardrails__stream_that_is_behind__nothing_else_acts(alice: Api, rounds: Callable[[], None]) -> None:
    """A promotion waits for everything that was decided until now."""
    experiment = start(SICK)
    begin_earlier(experiment)
    fill(experiment, {"a": (20, 280), "b": (280, 20)})
    from noregret.learning.drain import drain

    drain(experiment.endpoint)
    stream_of_another_kind(experiment)
    for _ in range(3):
        rounds()
    experiment.refresh_from_db()
    assert experiment.status == "running"
    client().delete(keys().decisions(SICK))
    for _ in range(3):
        rounds()
    experiment.refresh_from_db()
    assert experiment.outcome == "promoted"


def test_draft_whose_schedule_is_no_time__keeps_nobody_from_starting_or_learning(
    platform: None, rounds: Callable[[], None]
) -> None:
    well = start(WELL)
    static_model(SICK, "a")
    endpoint_of(SICK, f"{SICK}@a")
    from noregret.experiments import document
    from noregret.rollout import creation

    body = {
        "name": "draft",
        "endpoint": SICK,
        "strategy": "ab",
        "arms": [{"name": name, "model": f"{WELL}@{name}"} for name in "ab"],
    }
    draft = creation.create_experiment(msgspec.convert(body, document.Experiment), actor="tests")
    Experiment.objects.filter(pk=draft.pk).update(schedule={"start_at": "soon"})
    fill(well, {"a": (5, 5), "b": (5, 5)})
    rounds()
    assert health.learner().age_seconds is not None
    assert sum(ArmStatistics.objects.filter(arm__experiment=well).values_list("rewards", flat=True)) == 20


def test_endpoint_that_somebody_holds__keeps_the_look_at_all_others_going(
    alice: Api, rounds: Callable[[], None]
) -> None:
    """A transaction that does not end has the endpoint's row: a draft that is due there, and a
    version to go past."""
    from noregret.experiments import document
    from noregret.rollout import creation

    static_model(SICK, "a")
    endpoint = endpoint_of(SICK, f"{SICK}@a")
    well = start(WELL)
    body = {
        "name": "draft",
        "endpoint": SICK,
        "strategy": "ab",
        "arms": [{"name": name, "model": f"{WELL}@{name}"} for name in "ab"],
        "schedule": {"start_at": "2020-01-01T00:00:00Z"},
    }
    creation.create_experiment(msgspec.convert(body, document.Experiment), actor="tests")
    client().hset(keys().snapshot(SICK), "version", 10**6)
    fill(well, {"a": (5, 5), "b": (5, 5)})
    with another_holds_row(endpoint.pk):
        rounds()
        assert health.learner().age_seconds is not None
        assert sum(ArmStatistics.objects.filter(arm__experiment=well).values_list("rewards", flat=True)) == 20
        assert Experiment.objects.get(name="draft").status == "draft"
    long_ago()
    rounds()
    assert Experiment.objects.get(name="draft").status == "running"
    assert Endpoint.objects.get(pk=endpoint.pk).policy_version > 10**6


def test_redis_emptied__failures_are_forgotten_and_found_again(alice: Api, rounds: Callable[[], None]) -> None:
    experiment = start(SICK)
    learning_raises(experiment)
    fill(experiment, {"a": (5, 5), "b": (5, 5)})
    rounds()
    assert len(client().hgetall(keys().failing)) == 1
    for name in client().scan_iter(f"{keys().prefix}*"):
        client().delete(name)
    assert health.learner() == health.Learner(None)  # nothing is known to be well
    fill(experiment, {"a": (1, 1), "b": (1, 1)})
    rounds()
    rounds()
    assert len(client().hgetall(keys().failing)) == 1
    assert health.learner().age_seconds is not None
