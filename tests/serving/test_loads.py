"""While a model is loaded, or Redis stalls, everything else is served; and what was waited for is
served when it is there."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from noregret.access.keys import create_key, revoke_key
from noregret.experiments.models import Endpoint
from noregret.redis_client import client
from noregret.registry.models import ModelVersion
from noregret.rollout.endpoints import update_endpoint
from noregret.rollout.publish import publish_endpoint

from serving import loading, snapshot, store
from serving import process as processes
from serving.loading import ModelLoader
from serving.misses import FIRST_PAUSE_SECONDS
from serving.process import process
from serving.runtimes.static import StaticModel
from serving.runtimes.static_runtime import StaticRuntime
from tests import callables
from tests.conftest import ACTOR, Api, endpoint_of, python_model, start_experiment, static_model
from tests.serving.test_when_things_break import OwnRedis, own_redis, wait_for

__all__ = ["own_redis"]

ROWS = {"inputs": [[1.0]]}


def predict(api: Api, endpoint: str) -> Any:
    return api.post(f"/api/v1/endpoints/{endpoint}/predict", ROWS)


@pytest.fixture
def gate(settings: Any) -> Iterator[threading.Event]:
    """Closed: `slow` models are being loaded until it is set."""
    settings.PYTHON_CALLABLES = ["tests.callables.*", "tests.loaded_slowly.*"]
    sys.modules.pop("tests.loaded_slowly", None)
    callables.GATE.clear()
    yield callables.GATE
    callables.GATE.set()
    assert wait_for(lambda: not any(thread.name.startswith("load-") for thread in threading.enumerate()))
    sys.modules.pop("tests.loaded_slowly", None)


def slow_model(name: str, version: str) -> str:
    """Registered while it was quick to load."""
    model = python_model(name, version, "zeros")
    ModelVersion.objects.filter(name=name, version=version).update(callable="tests.loaded_slowly.twos")
    return model


def test_champion_that_is_being_loaded__is_told__and_others_are_served(alice: Api, gate: threading.Event) -> None:
    endpoint_of("quick", python_model("quick", "1", "ones"))
    assert predict(alice, "quick").status == 200
    endpoint_of("slow", slow_model("slow", "1"))
    assert predict(alice, "slow").status == 503
    for _ in range(20):
        answer = predict(alice, "slow")
        assert (answer.status, answer.response["Retry-After"]) == (503, "1")
        assert "slow@1 is not loaded here: it is being loaded" in answer["detail"]
        assert predict(alice, "quick").status == 200
    # What is new is learned of meanwhile, too.
    endpoint_of("later", "quick@1")
    assert predict(alice, "later")["outputs"] == {"predict": [1]}
    assert Api(create_key(name="new", scopes=["predict"], actor=ACTOR)[1]).post(
        "/api/v1/endpoints/quick/predict", ROWS
    ).status == 200  # fmt: skip
    assert alice.get("/readyz")["checks"]["snapshots"]["loading"] == {"slow": ["slow@1"]}
    gate.set()
    assert wait_for(lambda: predict(alice, "slow").status == 200)
    assert predict(alice, "slow")["outputs"] == {"predict": [2]}


def test_new_champion_that_is_being_loaded__the_old_one_answers_until_it_is_there(
    alice: Api, gate: threading.Event
) -> None:
    endpoint = endpoint_of("pages", python_model("m", "old", "ones"))
    assert predict(alice, "pages")["model"] == "m@old"
    update_endpoint(endpoint, champion=slow_model("m", "new"), deadline_ms=None, reason="", actor=ACTOR)
    process().store.refresh(0.2)
    assert {predict(alice, "pages")["model"] for _ in range(20)} == {"m@old"}
    assert alice.get("/readyz")["checks"]["champions"]["ok"]
    gate.set()
    assert wait_for(lambda: bool(predict(alice, "pages")["model"] == "m@new"))
    assert {name for name, _ in process().store._loader._seats} == {"m@new"}  # the old one is not kept


def test_challenger_that_is_being_loaded__its_experiment_waits__and_none_of_its_decisions_fails(
    alice: Api, gate: threading.Event
) -> None:
    endpoint_of("pages", python_model("m", "old", "ones"))
    assert predict(alice, "pages").status == 200
    slow_model("m", "new")
    experiment = start_experiment(
        {
            "name": "e",
            "endpoint": "pages",
            "strategy": "ab",
            "arms": [{"name": "a", "model": "m@old"}, {"name": "b", "model": "m@new"}],
        }
    )
    process().store.refresh(0.2)
    during = [predict(alice, "pages").body for _ in range(20)]
    assert {(body["experiment"], body["fallback_reason"]) for body in during} == {(None, None)}
    # Another process may have begun: feedback on its decisions is known here.
    assert process().store.reward(experiment.pk) is not None
    gate.set()
    assert wait_for(lambda: bool(predict(alice, "pages")["experiment"] == "e"))
    after = [predict(alice, "pages").body for _ in range(40)]
    assert {(body["model"], body["fallback_reason"]) for body in after} == {("m@old", None), ("m@new", None)}


def test_challenger_that_is_loaded_too_long__its_experiment_begins_without_it(
    alice: Api, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "HOLD_SECONDS", 0.5)
    endpoint_of("pages", python_model("m", "old", "ones"))
    assert predict(alice, "pages").status == 200
    slow_model("m", "new")
    start_experiment(
        {"name": "e", "endpoint": "pages", "strategy": "canary", "arms": [{"name": "new", "model": "m@new"}],
         "canary": {"steps": [0.5, 1.0], "bake_seconds": 3600}}
    )  # fmt: skip
    alice.post("/api/v1/experiments/e/advance")
    assert wait_for(lambda: bool(predict(alice, "pages")["experiment"] == "e"))
    reasons = {(body["arm"], body["fallback_reason"]) for body in (predict(alice, "pages").body for _ in range(40))}
    assert reasons <= {("champion", None), ("control", None), ("new", "unavailable"), ("new", "circuit_open")}
    assert alice.get("/readyz")["checks"]["challengers"]["not_loaded"] == {"pages/new": "m@new: it is being loaded"}
    gate.set()
    assert wait_for(lambda: bool(predict(alice, "pages")["model"] == "m@new"))


def test_shadow_that_is_being_loaded__the_experiment_begins_at_once(alice: Api, gate: threading.Event) -> None:
    endpoint_of("pages", python_model("m", "old", "ones"))
    assert predict(alice, "pages").status == 200
    slow_model("m", "new")
    start_experiment(
        {"name": "e", "endpoint": "pages", "strategy": "shadow", "arms": [{"name": "new", "model": "m@new"}]}
    )
    process().store.refresh(0.2)
    answer = predict(alice, "pages")
    assert (answer["experiment"], answer["model"], answer["fallback_reason"]) == ("e", "m@old", None)


def test_model_that_could_not_be_loaded__is_tried_again_without_a_new_snapshot(
    alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "FIRST_PAUSE_SECONDS", 0.2)
    python_model("m", "1", "ones")
    ModelVersion.objects.update(callable="tests.callables.comes_later")
    endpoint_of("pages", "m@1")
    answer = predict(alice, "pages")
    assert answer.status == 503
    assert "m@1 is not loaded here: ModelError: tests.callables.comes_later can't be imported" in answer["detail"]
    monkeypatch.setattr(callables, "comes_later", callables.ones, raising=False)
    assert wait_for(lambda: predict(alice, "pages").status == 200)


def test_new_champion_whose_load_fails_at_first__the_old_one_answers_meanwhile__and_not_for_ever(
    alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "FIRST_PAUSE_SECONDS", 0.2)
    endpoint = endpoint_of("pages", python_model("m", "old", "ones"))
    assert predict(alice, "pages")["model"] == "m@old"
    for version in ("new", "gone"):
        python_model("m", version, "zeros")
    ModelVersion.objects.exclude(version="old").update(callable="tests.callables.comes_later")
    update_endpoint(endpoint, champion="m@new", deadline_ms=None, reason="", actor=ACTOR)
    process().store.refresh()
    assert predict(alice, "pages")["model"] == "m@old"
    monkeypatch.setattr(callables, "comes_later", callables.ones, raising=False)
    assert wait_for(lambda: bool(predict(alice, "pages")["model"] == "m@new"))
    monkeypatch.delattr(callables, "comes_later")
    monkeypatch.setattr(store, "HOLD_SECONDS", 0.5)
    update_endpoint(endpoint, champion="m@gone", deadline_ms=None, reason="", actor=ACTOR)
    assert wait_for(lambda: predict(alice, "pages").status == 503)
    assert "m@gone is not loaded here: ModelError" in predict(alice, "pages")["detail"]


# The loader by itself.


def model(name: str) -> snapshot.Model:
    return StaticModel(model=name, framework="static")


def test_loader__failure_after_failure__is_tried_ever_less_often() -> None:
    now = [0.0]
    tries: list[float] = []

    def fails(wanted: snapshot.Model) -> StaticRuntime:
        tries.append(now[0])
        raise OSError("away")

    loader = ModelLoader(fails, lambda key: None, lambda: now[0])
    loader.get(model("m"))
    for tenth in range(6000):
        now[0] = tenth / 10
        before = len(tries)
        loader.tick()
        assert wait_for(lambda: not loader._threads)
        assert len(tries) <= before + 1
    # After 1, 2, 4, 8, 16, 32 and then always 60 seconds.
    assert tries == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0, 243.0, 303.0, 363.0, 423.0, 483.0, 543.0]
    assert loader.get(model("m")).problem == "OSError: away"


def test_loader__loads_that_never_end__hold_a_bounded_number_of_threads__and_no_other_model() -> None:
    gate, now, begun = threading.Event(), [0.0], []

    def load(wanted: snapshot.Model) -> StaticRuntime:
        begun.append(wanted.model)
        if wanted.model.startswith("hangs"):
            gate.wait(60)
        return StaticRuntime(wanted.model)

    loader = ModelLoader(load, lambda key: None, lambda: now[0])
    try:
        for i in range(40):
            loader.get(model(f"hangs-{i}"))
        loader.get(model("quick"))
        assert wait_for(lambda: len(begun) == loading.AT_ONCE)
        for _ in range(2):
            now[0] += loading.SLOW_SECONDS + 1
            loader.tick()
        assert wait_for(lambda: len(begun) == 3 * loading.AT_ONCE)
        loader.keep_only({("quick", None)} | {(f"hangs-{i}", None) for i in range(10)})
        now[0] += loading.SLOW_SECONDS + 1
        loader.tick()
        assert wait_for(lambda: loader.get(model("quick")).runtime is not None)
        assert len(loader._threads) <= loading.THREADS
        now[0] += loading.LOAD_SECONDS
        loader.tick()
        hung = loader.get(model("hangs-0"))
        assert (hung.problem, hung.is_loading) == ("not loaded within 120 s", False)
    finally:
        gate.set()
    # What comes after all is taken.
    assert wait_for(lambda: loader.get(model("hangs-0")).runtime is not None)


def test_loader__model_that_nothing_names_any_more__is_dropped_and_not_waited_for() -> None:
    gate, changed = threading.Event(), threading.Event()

    def load(wanted: snapshot.Model) -> StaticRuntime:
        gate.wait(60)
        return StaticRuntime(None)

    loader = ModelLoader(load, lambda key: changed.set())
    loader.get(model("m"))
    loader.keep_only(set())
    assert not loader.is_settled(model("m"))
    gate.set()
    assert changed.wait(10)
    assert not loader.is_settled(model("m"))


# Redis.


NOBODY = Api(None)


def with_nobodys_key(i: int) -> int:
    return NOBODY.post("/api/v1/endpoints/pages/decide", headers={"Authorization": f"Bearer nobodys-{i}"}).status


def readings() -> int:
    """How often Redis was asked for what changed."""
    calls: int = client().info("commandstats").get("cmdstat_mget", {}).get("calls", 0)
    return calls


def test_unknown_keys__a_flood_of_them__costs_a_bounded_number_of_readings__and_a_new_key_works(
    own_redis: OwnRedis, alice: Api
) -> None:
    endpoint_of("pages", static_model("page", "a"))
    assert alice.post("/api/v1/endpoints/pages/decide").status == 200
    before, began = readings(), time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(with_nobodys_key, range(2000))) == {401}
    seconds = time.monotonic() - began
    assert readings() - before <= 30.0 * seconds + 15
    own = Api(create_key(name="new", scopes=["predict"], actor=ACTOR)[1])
    assert wait_for(lambda: own.post("/api/v1/endpoints/pages/decide").status == 200)


def stalled(flood: Callable[[int], int], serve: Callable[[], int]) -> None:
    """Unknown names on as many threads as there are, and what is known beside them: nobody waits
    for Redis."""
    with ThreadPoolExecutor(8) as pool:
        floods = [pool.submit(flood, i) for i in range(200)]
        assert [serve() for _ in range(30)] == [200] * 30
        # One after another, each waiting for a second, they would take minutes.
        assert {future.result(20) for future in floods} == {401}


def test_redis_that_stalls__unknown_keys_hold_nobody_up__and_a_revoked_key_is_refused_when_it_is_back(
    own_redis: OwnRedis, alice: Api
) -> None:
    endpoint_of("pages", static_model("page", "a"))
    row, text = create_key(name="leaver", scopes=["predict"], actor=ACTOR)
    leaver = Api(text)

    def serve() -> int:
        return leaver.post("/api/v1/endpoints/pages/decide").status

    assert serve() == 200
    own_redis.process.suspend()
    try:
        stalled(with_nobodys_key, serve)
        revoke_key(row, actor=ACTOR)  # its publication times out
    finally:
        own_redis.process.resume()
    # Whether the publication waits in a socket's buffer or is lost, the operating system decides.
    from noregret.access.publish import publish_access

    publish_access()  # as the learner does
    assert wait_for(lambda: serve() == 401)


def test_redis_that_accepts_and_never_answers__process_serves_from_disk(alice: Api, settings: Any) -> None:
    endpoint_of("pages", static_model("page", "a"))
    assert alice.post("/api/v1/endpoints/pages/decide").status == 200
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        processes.reset()
        assert alice.post("/api/v1/endpoints/pages/decide").status == 200  # it starts
        stalled(
            with_nobodys_key,
            lambda: alice.post("/api/v1/endpoints/pages/decide").status,
        )
        processes.reset()


def test_endpoint__made_a_moment_ago__is_known(alice: Api) -> None:
    assert alice.post("/api/v1/endpoints/pages/decide").status == 404
    endpoint = endpoint_of("pages", static_model("page", "a"))
    assert publish_endpoint(endpoint.pk)
    assert Endpoint.objects.count() == 1
    time.sleep(2 * FIRST_PAUSE_SECONDS)  # for so long a name that was unknown a moment ago is not asked for again
    assert alice.post("/api/v1/endpoints/pages/decide").status == 200
