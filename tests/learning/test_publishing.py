"""What is decided reaches Redis, whoever dies and whatever is away in between; and a learner that
does not learn shows."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from noregret.access.models import ApiKey
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning import health
from noregret.learning.drain import drain
from noregret.learning.locks import lookout_lock
from noregret.redis_client import client, keys
from noregret.rollout.endpoints import create_endpoint, update_endpoint
from noregret.rollout.publish import build, publish_endpoint, publish_endpoint_on_commit
from noregret.rollout.transitions import move
from noregret.steering import pending, tasks
from noregret.steering.round import learn

from serving.snapshot import Endpoint as Snapshot
from serving.snapshot import decode_access, decode_endpoint
from tests.conftest import Api
from tests.learning.past_traffic import begin_earlier, decide, fill, reward

Start = Callable[..., Experiment]


def published(endpoint: str = "pages") -> Snapshot:
    """The snapshot in Redis."""
    return decode_endpoint(client().hget(keys().snapshot(endpoint), "body"))  # type: ignore[arg-type]


@pytest.fixture
def without_redis(settings: Any) -> Callable[[Callable[[], Any]], Any]:
    """Calls a function while Redis can't be reached."""

    def call(function: Callable[[], Any]) -> Any:
        there = settings.REDIS_URL
        settings.REDIS_URL = "unix:///nonexistent/redis.sock"
        try:
            return function()
        finally:
            settings.REDIS_URL = there

    return call


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The endpoints that a tick woke rounds for: the queue is another test's concern."""
    found: list[int] = []
    monkeypatch.setattr(tasks.learn_endpoint, "apply_async", lambda args, expires: found.append(*args))
    return found


def test_publish__burnt_in_bandit__follows_the_rewards(two_arms: Start) -> None:
    experiment = two_arms(policy={"burn_in": 10, "floor": 0.05})
    assert published().experiment.arms[0].propensity == 0.5  # type: ignore[union-attr]
    fill(experiment, {"a": (5, 20), "b": (20, 5)})
    learn(experiment.endpoint_id)
    shown = published().experiment
    assert shown is not None
    assert [(arm.count, arm.mean) for arm in shown.arms] == [(25, 0.2), (25, 0.8)]
    assert shown.arms[0].propensity == pytest.approx(0.05, abs=0.001)
    assert sum(arm.propensity for arm in shown.arms) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("weights", "shares"), [((None, None), [0.5, 0.5]), ((3, 1), [0.75, 0.25]), ((0, 2), [0.0, 1.0])]
)
def test_publish__ab__normalises_weights(two_arms: Start, weights: Any, shares: list[float]) -> None:
    arms = [{"name": n, "model": f"page@{n}", "weight": w} for n, w in zip("ab", weights, strict=True)]
    two_arms(strategy="ab", arms=arms)
    assert [arm.propensity for arm in published().experiment.arms] == shares  # type: ignore[union-attr]


def test_publish__disabled_arm__gets_nothing__and_without_any_the_champion_answers(two_arms: Start) -> None:
    experiment = two_arms()
    Arm.objects.filter(name="a").update(enabled=False)
    assert [arm.propensity for arm in build(experiment.endpoint_id).experiment.arms] == [0.0, 1.0]  # type: ignore[union-attr]
    Arm.objects.update(enabled=False)
    assert build(experiment.endpoint_id).experiment is None


def test_publish__paused_and_ended__keep_the_reward_of_open_windows(two_arms: Start) -> None:
    experiment = two_arms()
    experiment = move(experiment, "pause", actor="tests")
    assert published().experiment is None
    assert [reward.experiment for reward in published().rewards] == ["e", ""]  # and its baseline's
    move(experiment, "stop", actor="tests")
    assert [reward.experiment for reward in published().rewards] == ["e", ""]
    Experiment.objects.update(ended_at=timezone.now() - timezone.timedelta(days=2))
    assert [reward.experiment for reward in build(experiment.endpoint_id).rewards] == [""]


def test_publish__nothing_changed__publishes_nothing(two_arms: Start) -> None:
    experiment = two_arms()
    fill(experiment, {"a": (1, 0)})
    learn(experiment.endpoint_id)
    tasks.tick.run()  # the keys, of which a platform without any publishes that too
    before = (published(), client().get(keys().sequence))
    decide(experiment, "a")  # a decision alone changes no statistic that is served
    for _ in range(3):
        learn(experiment.endpoint_id)
        tasks.tick.run()
    assert (published(), client().get(keys().sequence)) == before


def test_publish__default_rewards_alone__are_published(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1, "default": 0})
    begin_earlier(experiment)
    decide(experiment, "a")
    learn(experiment.endpoint_id)
    assert published().experiment.arms[0].count == 1  # type: ignore[union-attr]


def test_publish__paused__learns_on_and_raises_no_version(two_arms: Start) -> None:
    experiment = two_arms()
    experiment = move(experiment, "pause", actor="tests")
    version = Endpoint.objects.get().policy_version
    reward(experiment, "a", decide(experiment, "a"), 1.0)
    learn(experiment.endpoint_id)
    assert Endpoint.objects.get().policy_version == version
    move(experiment, "resume", actor="tests")
    assert published().experiment.arms[0].count == 1  # type: ignore[union-attr]


def test_version__outside_a_transaction__is_refused(two_arms: Start) -> None:
    experiment = two_arms()
    with pytest.raises(RuntimeError, match="in the transaction of the change"):
        publish_endpoint_on_commit(experiment.endpoint_id)


def test_killed_between_commit_and_publication__the_next_tick_publishes(two_arms: Start) -> None:
    """As kill -9 leaves it: the change and its version are committed, and nobody published."""
    two_arms()
    with transaction.atomic():
        Endpoint.objects.update(deadline_ms=123, policy_version=F("policy_version") + 1)
    assert published().deadline_ms == 300
    tasks.tick.run()
    assert published().deadline_ms == 123
    assert published().version == Endpoint.objects.get().policy_version
    assert pending.find().publish == []


def test_redis_away__the_change_stays__and_is_published_when_it_is_back(
    two_arms: Start, without_redis: Callable[[Callable[[], Any]], Any]
) -> None:
    experiment = two_arms()
    without_redis(lambda: move(experiment, "stop", actor="tests"))
    assert published().experiment is not None
    tasks.tick.run()
    assert published().experiment is None


def test_redis_away__rounds_and_ticks__end_quietly_and_are_no_sign_of_life(
    two_arms: Start, without_redis: Callable[[Callable[[], Any]], Any]
) -> None:
    experiment = two_arms()
    without_redis(lambda: tasks.tick.run())
    without_redis(lambda: tasks.learn_endpoint.run(experiment.endpoint_id))
    assert health.learner() == health.Learner(None)
    assert pending.find().lagging == {}


def test_key_revoked_while_redis_was_away__is_withdrawn_when_it_is_back(
    alice: Api, without_redis: Callable[[Callable[[], Any]], Any]
) -> None:
    from noregret.access.publish import publish_access

    ApiKey.objects.update(revoked_at=timezone.now())
    assert without_redis(publish_access) is False
    name = keys().snapshot("@access")
    assert decode_access(client().hget(name, "body")).keys != {}  # type: ignore[arg-type]
    tasks.tick.run()
    assert decode_access(client().hget(name, "body")).keys == {}  # type: ignore[arg-type]
    assert not pending.find().access


def test_database_restored_from_a_backup__goes_past_the_version_that_redis_holds(two_arms: Start) -> None:
    experiment = two_arms()
    fill(experiment, {"a": (1, 1)})
    learn(experiment.endpoint_id)
    held = published().version
    Endpoint.objects.update(policy_version=0, deadline_ms=77)  # the older state
    tasks.tick.run()
    assert (published().version, published().deadline_ms) == (held + 1, 77)
    assert Endpoint.objects.get().policy_version == held + 1
    tasks.tick.run()
    assert published().version == held + 1


def test_changes_in_parallel__end_with_the_latest_published(two_arms: Start) -> None:
    experiment = two_arms()

    def change(deadline: int) -> None:
        try:
            update_endpoint(experiment.endpoint, champion=None, deadline_ms=deadline, reason="", actor="tests")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(change, 1000 + i) for i in range(24)]:
            future.result()
    held = Endpoint.objects.get()
    assert (published().version, published().deadline_ms) == (held.policy_version, held.deadline_ms)


def test_sign_of_life__platform_without_endpoint__is_given_by_the_tick(platform: None) -> None:
    assert health.learner() == health.Learner(None)
    tasks.tick.run()
    assert health.learner() == health.Learner(pytest.approx(0.0, abs=2.0), {})  # type: ignore[arg-type]


def test_sign_of_life__what_just_came__is_no_lag(two_arms: Start, asked: list[int]) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    tasks.tick.run()
    assert asked == [experiment.endpoint_id]
    assert health.learner().lagging == {}


def test_tick__long_window_and_nothing_new__wakes_nobody(two_arms: Start) -> None:
    experiment = two_arms()
    assert pending.find().learn == []
    begin_earlier(experiment, 2 * 3600)
    found = pending.find()
    assert found.learn == [experiment.endpoint_id]
    assert found.lagging == {}  # an hour of buckets to close, and nothing in them that waits
    decide(experiment, "a", seconds_ago=2 * 3600 - 600)
    drain(experiment.endpoint)
    # Rounds fail, or nobody does them: its window and its bucket were over by then.
    assert pending.find().lagging["pages"].seconds == pytest.approx(3000, abs=70)
    learn(experiment.endpoint_id)
    assert (pending.find().learn, pending.find().behind) == ([], {})
    reward(experiment, "a", decide(experiment, "a"), 1.0)
    assert pending.find().learn == [experiment.endpoint_id]


def test_tick__while_another_looks__does_nothing(platform: None) -> None:
    with lookout_lock() as ours, ThreadPoolExecutor(1) as pool:
        assert ours
        pool.submit(_run_and_close, tasks.tick.run).result()
    assert health.learner() == health.Learner(None)


def test_publish__same_version_twice__is_harmless(two_arms: Start) -> None:
    experiment = two_arms()
    before = published()
    assert publish_endpoint(experiment.endpoint_id)
    assert published() == before


def test_health__counts_what_waits_and_what_is_set_aside(two_arms: Start) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    client().xadd(keys().decisions("pages"), {"d": b"nonsense"})
    assert health.health() == health.Health(health.Learner(None), 2, 0, {"pages": 2})
    tasks.learn_endpoint.run(experiment.endpoint_id)
    assert health.health() == health.Health(health.Learner(None), 0, 1, {"pages": 0})


def _run_and_close(function: Callable[[], Any]) -> Any:
    try:
        return function()
    finally:
        connection.close()


def put_without_announcing(document: Any) -> None:
    """As a publisher that dies or stalls between the document and the index."""
    from serving import publication
    from serving.redis_keys import ACCESS
    from serving.snapshot import Access, encode

    name = ACCESS if isinstance(document, Access) else document.name
    client().eval(publication._PUT, 1, keys().snapshot(name), document.version, encode(document))


def test_revoked_key__index_was_never_told__is_refused_within_two_seconds(alice: Api, two_arms: Start) -> None:
    from noregret.access import publish as access
    from noregret.access.keys import create_key

    from serving.process import process
    from serving.reading import COMPARE_SECONDS

    two_arms()
    row, text = create_key(name="leaver", scopes=["predict"], actor="t")
    leaver = Api(text)
    assert leaver.post("/api/v1/endpoints/pages/decide").status == 200
    ApiKey.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
    put_without_announcing(access.build())
    assert pending.find().access  # the learner publishes it again
    time.sleep(COMPARE_SECONDS)
    assert process().store.refresh()
    assert leaver.post("/api/v1/endpoints/pages/decide").status == 401


@pytest.mark.parametrize("damage", ["another kind", "no number"])
def test_snapshot_that_is_damaged_in_redis__is_that_endpoints_alone(alice: Api, two_arms: Start, damage: str) -> None:
    from noregret.access.keys import create_key
    from noregret.access.publish import publish_access

    from serving.process import process
    from serving.reading import COMPARE_SECONDS

    two_arms()
    row, text = create_key(name="leaver", scopes=["predict"], actor="t")
    leaver = Api(text)
    assert leaver.post("/api/v1/endpoints/pages/decide").status == 200
    name = keys().snapshot("pages")
    if damage == "another kind":
        client().delete(name)
        client().set(name, "x")
    else:
        client().hset(name, "version", "x")
    ApiKey.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
    time.sleep(COMPARE_SECONDS)
    assert publish_access()
    assert process().store.refresh()
    assert leaver.post("/api/v1/endpoints/pages/decide").status == 401
    assert alice.post("/api/v1/endpoints/pages/decide").status == 200  # from what is held


def test_endpoint__index_was_never_told__reaches_the_process_all_the_same(alice: Api, two_arms: Start) -> None:
    from serving.process import process
    from serving.reading import COMPARE_SECONDS

    experiment = two_arms()
    before = alice.post("/api/v1/endpoints/pages/decide")["policy_version"]
    Endpoint.objects.update(policy_version=F("policy_version") + 1)
    put_without_announcing(build(experiment.endpoint_id))
    assert pending.find().publish == [experiment.endpoint_id]
    time.sleep(COMPARE_SECONDS)
    process().store.refresh()
    assert alice.post("/api/v1/endpoints/pages/decide")["policy_version"] == before + 1


def test_many_endpoints__snapshot_that_is_gone__is_missed_when_its_turn_comes(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = two_arms()
    others = [create_endpoint(name=f"other-{i}", champion="page@a", deadline_ms=300, actor="t").pk for i in range(2)]
    assert pending.find().publish == []
    monkeypatch.setattr(pending, "_AT_LEAST", 1)
    for name in ("pages", "other-0", "other-1"):
        client().delete(keys().snapshot(name))
    missed = [pk for _ in range(3) for pk in pending.find().publish]
    assert sorted(missed) == sorted([experiment.endpoint_id, *others])


def test_many_endpoints__versions__are_compared_by_turns(platform: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import reading
    from serving.process import process

    monkeypatch.setattr(reading, "COMPARED_AT_ONCE", 2)
    next_turn = reading.RedisReader(client(), keys(), process().store, 1.0)._next_turn
    held = {"b": 2, "a": 1, "c": 3}
    turns = [next_turn(held) for _ in range(3)]
    assert turns == [{"a": 1, "b": 2}, {"c": 3, "a": 1}, {"b": 2, "c": 3}]
    assert len(next_turn({"a": 1})) == 1
    assert next_turn({}) == {}


def test_damaged_document__is_not_read_again_and_again(alice: Api, two_arms: Start) -> None:
    from serving.process import process
    from serving.reading import COMPARE_SECONDS

    two_arms()
    store = process().store
    assert alice.post("/api/v1/endpoints/pages/decide").status == 200
    client().hset(keys().snapshot("pages"), mapping={"version": 10**6, "body": b"\xc1"})
    time.sleep(COMPARE_SECONDS)
    store.refresh()
    assert store._reader._newer_than(store.versions()) == set()
    assert alice.post("/api/v1/endpoints/pages/decide").status == 200
