"""From the ledger to posteriors and promotion: each row once, whatever is repeated or comes
late."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from noregret.experiments.models import ChampionChange, Endpoint, Experiment
from noregret.learning.fold import fold
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.learning.shown.recommendation import recommend
from noregret.redis_client import client, keys
from noregret.rollout.publish import publish_endpoint_on_commit
from noregret.rollout.transitions import move
from noregret.steering import pending, tasks
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry

from serving.ledger import events, partitions
from serving.models import Decision, QuarantinedEvent, Reward
from serving.process import process
from tests.conftest import endpoint_of, start_experiment
from tests.learning.past_traffic import WINDOW, begin_earlier, decide, fill, reward
from tests.learning.told import over_time, results

Start = Callable[..., Experiment]


def test_round__decisions_and_rewards__are_in_the_statistics_once(two_arms: Start) -> None:
    experiment = two_arms()
    fill(experiment, {"a": (3, 1), "b": (1, 3)})
    decide(experiment, "b", latency_ms=80.0, failed=True)
    for _ in range(3):
        assert learn(experiment.endpoint_id)
    a, b = (ArmStatistics.objects.get(arm__name=name) for name in "ab")
    assert (a.decisions, a.rewards, a.failures, a.mean) == (4, 4, 0, 0.75)
    assert (b.decisions, b.rewards, b.failures, b.mean) == (5, 4, 1, 0.25)
    assert a.m2 == pytest.approx(0.75)
    assert client().xlen(keys().decisions("pages")) == 0


def test_round__stream_entry_twice__is_one_decision(two_arms: Start) -> None:
    experiment = two_arms()
    decide(experiment, "a")
    key = keys().decisions("pages")
    body = client().xrange(key)[0][1]  # type: ignore[index]  # the client decodes nothing
    client().xadd(key, body)
    learn(experiment.endpoint_id)
    client().xadd(key, body)
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 1
    assert ArmStatistics.objects.get(arm__name="a").decisions == 1


def test_round__bad_entries__are_quarantined_and_block_nothing(two_arms: Start) -> None:
    experiment = two_arms()
    key = keys().decisions("pages")
    good = events.decode(client().xrange(key)[0][1][b"d"]) if client().xlen(key) else None
    assert good is None
    client().xadd(key, {"d": b"\xff nonsense"})
    client().xadd(key, {"other": b"field"})
    identity = decide(experiment, "a")
    template = events.decode(client().xrange(key)[2][1][b"d"])  # type: ignore[index]
    import msgspec

    client().xadd(key, {"d": events.encode(msgspec.structs.replace(template, id=b"\xff" * 16))})
    client().xadd(
        key, {"d": events.encode(msgspec.structs.replace(template, id=identity[:8] + b"12345678", unit="a\x00"))}
    )
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 1
    assert QuarantinedEvent.objects.count() == 4
    assert client().xlen(key) == 0


def test_fold__in_parallel__counts_each_reward_once(two_arms: Start) -> None:
    experiment = two_arms()
    fill(experiment, {"a": (50, 50)})

    def run() -> int:
        try:
            return fold(experiment)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        folded = [future.result() for future in [pool.submit(run) for _ in range(4)]]
    assert sum(folded) == 100
    assert ArmStatistics.objects.get(arm__name="a").rewards == 100


def test_fold__reward_committed_late__is_not_lost(two_arms: Start) -> None:
    """A transaction that began first and commits last: an `id > watermark` would skip its row."""
    experiment = two_arms()
    first = decide(experiment, "a")
    second = decide(experiment, "a")
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        reward(experiment, "a", first, 1.0)

        def meanwhile() -> int:
            try:
                reward(experiment, "a", second, 0.0)
                return fold(experiment)
            finally:
                connection.close()

        assert pool.submit(meanwhile).result() == 1
    assert fold(experiment) == 1
    assert ArmStatistics.objects.get(arm__name="a").rewards == 2


def test_promotion__clear_winner__is_promoted_exactly_once_by_racing_learners(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})

    def run() -> None:
        try:
            learn(experiment.endpoint_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(run) for _ in range(8)]:
            future.result()
    experiment.refresh_from_db()
    assert (experiment.status, experiment.outcome) == ("completed", "promoted")
    assert experiment.promoted_arm is not None
    assert experiment.promoted_arm.name == "b"
    assert Endpoint.objects.get().champion.model == "page@b"
    assert ChampionChange.objects.filter(experiment=experiment).count() == 1
    assert AuditEntry.objects.filter(action="experiment.promoted").count() == 1
    assert "b beats a: evidence" in AuditEntry.objects.get(action="experiment.promoted").reason
    live = process().store.endpoint("pages")
    assert live is not None
    process().store.refresh()
    live = process().store.endpoint("pages")
    assert live is not None
    assert live.document.experiment is None
    assert live.document.champion.model == "page@b"


def test_promotion__by_a_person__keeps_the_evidence_of_that_moment(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW, promotion={"auto": False})
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    move(experiment, "promote", actor="ann", reason="it holds", arm=experiment.arms.get(name="b"))
    for kept in (ChampionChange.objects.get(actor="ann").evidence, AuditEntry.objects.latest("pk").details["evidence"]):
        assert kept["value"] > kept["needed"] == 40.0
        assert kept["rule"] == "anytime"


def test_promotion__open_windows__promote_nothing(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 3600})
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert experiment.status == "running"
    assert ExperimentEvidence.objects.get().matured == 0
    assert "no decision has matured" in results(experiment)["recommendation"]["reason"]


@pytest.mark.parametrize(
    ("promotion", "said"),
    [
        ({"auto": False}, "b beats a"),
        ({"min_rewards": 1000}, "150 of 1000 matured rewards"),
        ({"min_seconds": 86_400}, "of the minimum are left"),
    ],
)
def test_promotion__not_yet_or_not_by_itself__only_recommends(
    two_arms: Start, promotion: dict[str, Any], said: str
) -> None:
    experiment = two_arms(**WINDOW, promotion=promotion)
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert experiment.status == "running"
    assert said in recommend(experiment, list(experiment.arms.order_by("position"))).reason


def test_minimize__is_the_mirror__and_promotes_the_smaller(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1, "direction": "minimize"})
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    assert experiment.promoted_arm is not None
    assert experiment.promoted_arm.name == "a"
    shown = results(experiment)
    assert shown["arms"][0]["probability_best"] > 0.999
    low, high = shown["arms"][0]["interval"]
    assert low < 0.2 < high < 0.5


def test_default_reward__is_given_when_the_window_closed__and_late_feedback_is_kept_apart(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1, "default": 0})
    begin_earlier(experiment)
    silent = decide(experiment, "a")
    answered = decide(experiment, "a")
    reward(experiment, "a", answered, 1.0)
    decide(experiment, "b", failed=True)
    learn(experiment.endpoint_id)
    given = Reward.objects.get(decision_id=UUID(bytes=silent))
    assert (given.value, given.defaulted, given.folded) == (0.0, True, True)
    assert Reward.objects.count() == 2  # none for the arm that failed
    statistics = ArmStatistics.objects.get(arm__name="a")
    assert (statistics.rewards, statistics.mean) == (2, 0.5)
    from serving.ledger.rewards import NewReward

    late = NewReward(
        silent, int.from_bytes(silent[:8], "big"), experiment.pk, given.arm_id, "reward", 1.0, None, 1.0, learned=True
    )
    assert process().rewards.write([late]) == ["late"]
    assert process().rewards.write([late]) == ["duplicate"]
    given.refresh_from_db()
    assert (given.value, given.late_value) == (0.0, 1.0)
    learn(experiment.endpoint_id)
    assert ArmStatistics.objects.get(arm__name="a").rewards == 2


def test_ab__unit_with_many_decisions__counts_once(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", **WINDOW)
    begin_earlier(experiment)
    for i in range(10):
        identity = decide(experiment, "a", unit="always-the-same", seconds_ago=60 - i)
        reward(experiment, "a", identity, 1.0)
    other = decide(experiment, "b", unit="another")
    reward(experiment, "b", other, 0.0)
    learn(experiment.endpoint_id)
    assert ExperimentEvidence.objects.get().matured == 2
    assert ArmStatistics.objects.get(arm__name="a").rewards == 10


def test_rebuild__equals_the_live_state__until_a_row_is_altered(
    two_arms: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = two_arms(**WINDOW, promotion={"auto": False})
    begin_earlier(experiment)
    for part in ({"a": (7, 13), "b": (11, 9)}, {"a": (5, 5), "b": (6, 1)}):
        fill(experiment, part)
        learn(experiment.endpoint_id)
    assert rebuild(experiment, write=False) == []
    call_command("rebuild", "--check")
    ArmStatistics.objects.filter(arm__name="a").update(mean=0.9)
    with pytest.raises(SystemExit) as ended:
        call_command("rebuild", "--check")
    assert ended.value.code == 1
    assert "a: mean is 0.9" in capsys.readouterr().out
    call_command("rebuild")
    call_command("rebuild", "--check")
    assert ArmStatistics.objects.get(arm__name="a").mean == pytest.approx(12 / 30)


def test_learner_that_can_not_keep_up__begins_with_who_waits_longest(two_arms: Start) -> None:
    old = two_arms()
    endpoint_of("others", "page@a")
    arms = [{"name": name, "model": f"page@{name}"} for name in "ab"]
    new = start_experiment({"name": "later", "endpoint": "others", "strategy": "bandit", "arms": arms})
    assert old.endpoint_id < new.endpoint_id
    for experiment in (new, old):
        decide(experiment, "a", seconds_ago=5)
        time.sleep(0.05)  # it is the stream's own clock that tells who waits longer
    assert pending.find().learn == [new.endpoint_id, old.endpoint_id]


def test_redis_emptied__everything_is_published_again(two_arms: Start, settings: Any) -> None:
    two_arms()
    for key in list(client().scan_iter(f"{settings.REDIS_PREFIX}*")):
        client().delete(key)
    found = pending.find()
    assert (found.publish, found.access) == ([Endpoint.objects.get().pk], True)
    tasks.tick.run()
    process().store.refresh()
    live = process().store.endpoint("pages")
    assert live is not None
    assert live.document.experiment is not None
    assert pending.find().publish == []


def test_partitions__day_with_rows_in_the_default__moves_them(two_arms: Start) -> None:
    experiment = two_arms()
    # A day for which no other test makes a partition: they outlive the test that makes them.
    decide(experiment, "a", seconds_ago=70 * 86_400)
    learn(experiment.endpoint_id)
    day = (timezone.now() - timedelta(days=70)).date()
    with transaction.atomic(), connection.cursor() as cursor:
        assert partitions.days_in_default(cursor, timezone.now().date()) == [day]
        assert partitions.ensure(cursor, day, day) == len(partitions.TABLES)
        assert partitions.ensure(cursor, day, day) == 0
        assert partitions.days_in_default(cursor, timezone.now().date()) == []
    assert Decision.objects.count() == 1


def test_results__hand_worked_numbers(two_arms: Start) -> None:
    experiment = two_arms(promotion={"auto": False})
    fill(experiment, {"a": (1, 3), "b": (6, 2)})
    learn(experiment.endpoint_id)
    shown = results(experiment)
    a, b = shown["arms"]
    assert (shown["decisions"], shown["rewards"], a["mean"], b["mean"]) == (12, 12, 0.25, 0.75)
    assert (a["share"], b["share"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    # Even split: mean (0.25 + 0.75) / 2 = 0.5; earned 4 * (0.25 - 0.5) + 8 * (0.75 - 0.5) = 1.
    assert shown["comparison"]["saved_against_even_split"] == pytest.approx(1.0)
    assert a["probability_best"] + b["probability_best"] == pytest.approx(1.0)
    draws = np.random.default_rng(1).beta([2, 7], [4, 3], (200_000, 2))
    assert b["probability_best"] == pytest.approx(float((draws[:, 1] > draws[:, 0]).mean()), abs=0.005)
    assert a["interval_method"] == "jeffreys"
    assert a["interval"] == [
        0.0,
        pytest.approx(0.71625, abs=1e-4),
    ]  # Beta(1.5, 3.5) at 97.5 %; of one success the lower end is 0
    assert shown["comparison"]["saved_interval"][0] < 0 < shown["comparison"]["saved_interval"][1]
    assert a["latency_ms"]["p50"] == pytest.approx(1.0, rel=0.05)
    series = over_time(experiment)
    first = series["arms"][0]
    assert sum(value or 0 for value in first["share"]) > 0
    assert (first["so_far"][-1], first["so_far_band"][-1]) == (pytest.approx(0.25), pytest.approx(a["interval"]))


def test_results__nothing_seen__says_null(two_arms: Start) -> None:
    shown = results(two_arms())
    assert [arm["mean"] for arm in shown["arms"]] == [None, None]
    assert [arm["probability_best"] for arm in shown["arms"]] == [None, None]
    assert set(shown["comparison"].values()) == {None}


def test_publish__older_version__never_replaces_a_newer(two_arms: Start) -> None:
    from noregret.rollout.publish import build

    from serving.publication import publish

    experiment = two_arms()
    older = build(experiment.endpoint_id)
    with transaction.atomic():
        publish_endpoint_on_commit(experiment.endpoint_id)
    assert publish(client(), keys(), older) is False
    held = client().hget(keys().snapshot("pages"), "version")
    assert int(held or 0) == Endpoint.objects.get().policy_version == older.version + 1


def test_sample_ratio__units_that_come_often__are_one_trial_each(two_arms: Start) -> None:
    """Forty units on one arm and forty on the other, but those of b come ten times as often: the
    split is right."""
    experiment = two_arms(strategy="ab")
    begin_earlier(experiment)
    for i in range(80):
        for _ in range(1 if i % 2 else 10):
            decide(experiment, "ab"[i % 2], unit=f"u{i}")
    learn(experiment.endpoint_id)
    ratio = results(experiment)["comparison"]["sample_ratio_p"]
    assert ratio == pytest.approx(1.0)
    for i in range(120):
        decide(experiment, "a", unit=f"more-{i}")
    learn(experiment.endpoint_id)
    assert results(experiment)["comparison"]["sample_ratio_p"] < 0.001
