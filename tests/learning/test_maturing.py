"""When decisions count as evidence, and what those get that nobody answered."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import numpy as np
import pytest
from django.db import connection
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning import buckets, closing, mature
from noregret.learning.fold import fold
from noregret.learning.models import ArmStatistics, ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.rollout.transitions import move
from noregret.steering import pending
from noregret.steering.promotion import act
from noregret.steering.round import learn

from bandits.inference.evidence import from_dict
from serving.ledger.rewards import NewReward
from serving.models import Decision, Reward
from serving.process import process
from tests.learning.past_traffic import WINDOW, begin_earlier, decide, fill, reward
from tests.learning.test_ingest import append, taken_out
from tests.learning.told import results

Start = Callable[..., Experiment]
DEFAULT = {"reward": {"kind": "binary", "window_seconds": 1, "default": 0}}


def late(experiment: Experiment, arm: str, identity: bytes, value: float) -> str:
    """Feedback that comes now, through the writer of the hot path."""
    sent = NewReward(
        identity,
        int.from_bytes(identity[:8], "big"),
        experiment.pk,
        experiment.arms.get(name=arm).pk,
        "reward",
        value,
        None,
        experiment.reward["window_seconds"],
        learned=True,
    )
    return process().rewards.write([sent])[0]


@pytest.mark.parametrize("seconds", [1.0, 61.0, 100.0, 7.0 * 60 + 1 / 3, 3600.0, 30.0 * 86_400])
def test_buckets__every_instant__lies_in_the_one_that_the_query_takes(seconds: float) -> None:
    width = buckets.bucket_width(seconds)
    assert timedelta(seconds=1) <= width <= timedelta(minutes=1)
    now = datetime(2026, 11, 23, 12, 0, 0, 123_457, tzinfo=UTC)
    for number in range(buckets.bucket_number(now, width), buckets.bucket_number(now, width) + 2000):
        start = buckets.bucket_start(number, width)
        assert buckets.bucket_number(start, width) == number
        assert buckets.bucket_number(start - timedelta(microseconds=1), width) == number - 1
        assert buckets.floor_to_bucket(start + width - timedelta(microseconds=1), width) == start


def test_mature__in_many_small_transactions__is_what_one_gives(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = two_arms(**WINDOW, promotion={"auto": False})
    begin_earlier(experiment)
    for i in range(40):
        identity = decide(experiment, "ab"[i % 2], seconds_ago=100.0 - i)
        reward(experiment, "ab"[i % 2], identity, float(i % 3 == 0))
    monkeypatch.setattr(mature, "DECISIONS_AT_ONCE", 3)
    learn(experiment.endpoint_id)
    held = ExperimentEvidence.objects.get()
    assert held.matured == 40
    assert rebuild(experiment, write=False) == []


def test_mature__evidence_by_hand(two_arms: Start) -> None:
    """One decision of arm b with outcome 1, of a bounded reward, at even odds. For the alternative
    b > a by d in log-odds around the pooled mean 1/2, its factor is 2 s(d/2) with s the logistic
    function: p_b = s(d/2), p_a = 1 - p_b, mixed with q = 1/2 to 1/2."""
    bounded = {"kind": "continuous", "minimum": 0, "maximum": 1, "default": 0, "window_seconds": 1}
    experiment = two_arms(reward=bounded, promotion={"auto": False})
    begin_earlier(experiment)
    reward(experiment, "b", decide(experiment, "b"), 1.0)
    learn(experiment.endpoint_id)
    steps = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
    better = float(np.mean(2.0 / (1.0 + np.exp(-steps / 2.0))))
    worse = float(np.mean(2.0 / (1.0 + np.exp(steps / 2.0))))
    evidence = from_dict(ExperimentEvidence.objects.get().state)
    assert evidence.e_values() == pytest.approx(np.array([[1.0, worse], [better, 1.0]]))
    shown = results(experiment)["evidence"]
    assert (shown["leader"], shown["needed"]) == ("b", pytest.approx(2 / 0.05))
    assert shown["value"] == pytest.approx(better)


def test_mature__continuous_rewards__are_scaled_by_their_bounds(two_arms: Start) -> None:
    experiment = two_arms(
        reward={"kind": "continuous", "window_seconds": 1, "minimum": -10, "maximum": 30, "direction": "minimize"}
    )
    begin_earlier(experiment)
    for value in (-10.0, 30.0, 0.0):
        reward(experiment, "a", decide(experiment, "a"), value)
    learn(experiment.endpoint_id)
    matured = from_dict(ExperimentEvidence.objects.get().state).matured
    # 1 - (y + 10) / 40: 1, 0 and 0.75.
    assert matured.mean.tolist() == pytest.approx([1.75 / 3, 0.0])
    assert ArmStatistics.objects.get(arm__name="a").mean == pytest.approx(20 / 3)  # as they were sent


def test_mature__reward_without_bounds__has_no_evidence_and_says_so(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "continuous", "window_seconds": 1}, promotion={"auto": False})
    begin_earlier(experiment)
    fill(experiment, {"a": (3, 3), "b": (3, 3)})
    learn(experiment.endpoint_id)
    shown = results(experiment)
    assert shown["evidence"]["value"] is None
    assert "needs a reward with bounds" in shown["recommendation"]["reason"]
    assert rebuild(experiment, write=False) == []


def test_default__feedback_that_was_too_late__leaves_it_standing(two_arms: Start) -> None:
    """The learner was away: feedback came after the window, before the bucket was closed."""
    experiment = two_arms(**DEFAULT)
    begin_earlier(experiment)
    identity = decide(experiment, "a")
    assert late(experiment, "a", identity, 1.0) == "late"
    learn(experiment.endpoint_id)
    held = Reward.objects.get()
    assert (held.value, held.late_value, held.defaulted, held.late) == (0.0, 1.0, True, False)
    assert (held.folded, held.matured) == (True, True)
    assert late(experiment, "a", identity, 1.0) == "duplicate"
    assert late(experiment, "a", identity, 0.0) == "conflict"
    statistics = ArmStatistics.objects.get(arm__name="a")
    assert (statistics.rewards, statistics.mean) == (1, 0.0)
    assert rebuild(experiment, write=False) == []


def test_without_default__feedback_that_was_too_late__is_kept_and_not_learned(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    assert late(experiment, "a", decide(experiment, "a"), 1.0) == "late"
    for _ in range(2):
        learn(experiment.endpoint_id)
    held = Reward.objects.get()
    assert (held.late, held.folded, held.matured) == (True, False, False)
    assert ArmStatistics.objects.get(arm__name="a").rewards == 0
    # Nobody waits for it. A bucket may have become due since the round.
    waits = [lag.why for lags in pending.find().behind.values() for lag in lags]
    assert set(waits) <= {pending._BUCKETS}
    assert pending.find().lagging == {}
    assert rebuild(experiment, write=False) == []


def test_straggler__decision_that_a_disk_gave_back_late__gets_its_default_and_is_no_evidence(two_arms: Start) -> None:
    experiment = two_arms(**DEFAULT)
    begin_earlier(experiment)
    reward(experiment, "a", decide(experiment, "a", seconds_ago=50), 1.0)
    learn(experiment.endpoint_id)
    silent = decide(experiment, "a", seconds_ago=100)
    answered = decide(experiment, "b", seconds_ago=100)
    reward(experiment, "b", answered, 1.0)
    decide(experiment, "b", seconds_ago=100, failed=True)
    learn(experiment.endpoint_id)
    given = Reward.objects.get(decision_id=UUID(bytes=silent))
    assert (given.value, given.defaulted, given.folded, given.matured) == (0.0, True, True, False)
    assert Reward.objects.count() == 3
    assert ExperimentEvidence.objects.get().matured == 1
    a, b = (ArmStatistics.objects.get(arm__name=name) for name in "ab")
    assert (a.rewards, a.mean, b.rewards, b.mean) == (2, 0.5, 1, 1.0)
    assert rebuild(experiment, write=False) == []


def test_ended__open_windows__are_still_closed_and_defaults_given(two_arms: Start) -> None:
    experiment = two_arms(**DEFAULT)
    begin_earlier(experiment)
    decide(experiment, "a")
    experiment = move(experiment, "stop", actor="tests")
    assert pending.find().learn == [experiment.endpoint_id]
    learn(experiment.endpoint_id)
    assert Reward.objects.get().defaulted
    assert ArmStatistics.objects.get(arm__name="a").rewards == 1
    Experiment.objects.update(ended_at=timezone.now() - closing.AFTER_END - timedelta(minutes=1))
    learn(experiment.endpoint_id)
    assert pending.find().learn == []  # settled: nothing is asked about it any more
    assert rebuild(experiment, write=False) == []


def test_mature__damaged_rows__stop_no_others(two_arms: Start) -> None:
    """No propensity for one arm, an arm of nobody: passed over, here as in a rebuild, and the
    others are weighed."""
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    good, short, strange = (decide(experiment, "a") for _ in range(3))
    first, second, third = taken_out()
    append(first)
    append(msgspec.structs.replace(second, propensities=[0.5]))
    append(msgspec.structs.replace(third, arm_id=999_999))
    for identity in (good, short, strange):
        reward(experiment, "a", identity, 1.0)
    learn(experiment.endpoint_id)
    assert from_dict(ExperimentEvidence.objects.get().state).matured.count.tolist() == [1.0, 0.0]
    assert rebuild(experiment, write=False) == []


def test_mature__stream_not_drained_past_a_bucket__leaves_it_open(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    learn(experiment.endpoint_id)
    closed = ExperimentEvidence.objects.get().closed_until
    assert closed is not None
    ExperimentEvidence.objects.update(closed_until=closed - timedelta(minutes=5))
    mature.mature(experiment, timezone.now() - timedelta(minutes=3))
    until = ExperimentEvidence.objects.get().closed_until
    assert until is not None
    assert until <= timezone.now() - timedelta(minutes=3)


def test_ab__decisions_without_unit__count_each(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", **WINDOW)
    begin_earlier(experiment)
    for unit in (None, None, "one", "one", "two"):
        reward(experiment, "a", decide(experiment, "a", unit=unit), 1.0)
    learn(experiment.endpoint_id)
    assert ExperimentEvidence.objects.get().matured == 4
    assert rebuild(experiment, write=False) == []


def test_act__experiment_that_a_person_paused_meanwhile__is_left_alone(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW, promotion={"auto": True, "min_seconds": 3599})
    begin_earlier(experiment, 1800)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    begin_earlier(experiment)
    as_it_was = Experiment.objects.select_related("endpoint").get()
    move(experiment, "pause", actor="tests")
    assert not act(as_it_was)
    assert Experiment.objects.get().status == "paused"


def test_act__in_parallel__promotes_once(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW, promotion={"auto": True, "min_seconds": 3599})
    begin_earlier(experiment, 1800)
    fill(experiment, {"a": (30, 120), "b": (130, 20)})
    learn(experiment.endpoint_id)
    begin_earlier(experiment)
    experiment = Experiment.objects.select_related("endpoint").get()

    def run() -> bool:
        try:
            return act(experiment)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(future.result() for future in [pool.submit(run) for _ in range(4)]) == [False] * 3 + [True]


def test_stop__arms_that_are_alike__ends_when_every_arm_was_seen_enough(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW, promotion={"indifference": 0.4, "min_rewards": 120})
    begin_earlier(experiment)

    def alternate(count: int, seconds_ago: float) -> None:
        for i in range(count):
            identity = decide(experiment, "ab"[i % 2], seconds_ago=seconds_ago - 0.01 * i)
            reward(experiment, "ab"[i % 2], identity, float(i // 2 % 2))

    alternate(200, 300.0)
    learn(experiment.endpoint_id)
    assert "but a has 100 of 120 matured rewards" in results(experiment)["recommendation"]["reason"]
    closed = timezone.now() - timedelta(seconds=200)
    ExperimentEvidence.objects.update(
        closed_until=buckets.floor_to_bucket(closed, buckets.bucket_width(experiment.reward["window_seconds"]))
    )
    alternate(40, 100.0)
    learn(experiment.endpoint_id)
    experiment = Experiment.objects.select_related("endpoint", "promoted_arm").get()
    assert (experiment.status, experiment.outcome) == ("completed", "stopped")
    said = "no arm is better than another by 40.0% of the reward's range"
    assert said in results(experiment)["recommendation"]["reason"]
    assert rebuild(experiment, write=False) == []


def test_fold__rewards_of_another_metric__change_no_statistic(two_arms: Start) -> None:
    experiment = two_arms()
    identity = decide(experiment, "a")
    reward(experiment, "a", identity, 1.0)
    Reward.objects.create(
        decision_id=UUID(bytes=identity), decided_at=Reward.objects.get().decided_at, metric="revenue", value=9.0,
        experiment_id=experiment.pk, arm_id=experiment.arms.get(name="a").pk, recorded_at=timezone.now(), folded=True,
    )  # fmt: skip
    assert learn(experiment.endpoint_id)
    assert fold(experiment) == 0
    assert ArmStatistics.objects.get(arm__name="a").mean == 1.0
    assert Decision.objects.count() == 1
    assert rebuild(experiment, write=False) == []
