"""Sums when the learner was away, when copies come after their day is gone, and when a row is none:
told as the ledger says."""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning import shadows
from noregret.learning.models import ExperimentEvidence, WatchedValues
from noregret.learning.rebuild import rebuild
from noregret.retention import days
from noregret.steering.round import learn

from serving.models import Reward
from tests.learning.past_traffic import begin_earlier, decide, decided_at, reward
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
DAY = 86_400
COST = {"metric": "cost", "action": "pause", "max": 5.0, "minimum": 0, "maximum": 10}


def again(experiment: Experiment) -> Experiment:
    return Experiment.objects.select_related("endpoint").get(pk=experiment.pk)


def told(experiment: Experiment, arm: str, decision: bytes, value: float, metric: str) -> None:
    """Feedback on another metric than the reward, a moment after its decision."""
    Reward.objects.create(
        decision_id=UUID(bytes=decision),
        decided_at=decided_at(decision),
        metric=metric,
        experiment_id=experiment.pk,
        arm_id=experiment.arms.get(name=arm).pk,
        value=value,
        recorded_at=decided_at(decision) + timedelta(seconds=0.1),
        folded=True,
    )


def prediction(experiment: Experiment, decision: bytes) -> tuple[Any, ...]:
    challenger = experiment.arms.get(name="b").pk
    said = (json.dumps([1.0]), json.dumps([0.0]))
    return (
        UUID(bytes=decision),
        decided_at(decision),
        experiment.pk,
        challenger,
        2.0,
        1.0,
        False,
        None,
        False,
        0.5,
        *said,
    )


def test_watched__learner_away_for_days__sums_what_came_meanwhile(two_arms: Start) -> None:
    experiment = two_arms(
        guardrails=[COST],
        promotion={"auto": False},
        reward={"kind": "binary", "window_seconds": 60},
        policy={"name": "uniform"},
    )
    begin_earlier(experiment, 5 * DAY)
    for i in range(20):
        told(experiment, "ab"[i % 2], decide(experiment, "ab"[i % 2], seconds_ago=4 * DAY - i), 1.0, "cost")
    learn(experiment.endpoint_id)
    # The learner was killed just then, and comes back today.
    ExperimentEvidence.objects.update(closed_until=timezone.now().replace(microsecond=0) - timedelta(days=3.9))
    for i in range(30):
        told(experiment, "ab"[i % 2], decide(experiment, "ab"[i % 2], seconds_ago=3 * DAY - i), 1.0, "cost")
    learn(experiment.endpoint_id)
    assert sorted(WatchedValues.objects.values_list("count", flat=True)) == [25, 25]
    assert rebuild(again(experiment), write=False) == []


@pytest.mark.parametrize("pending", ["ignore", "exposure"])
@pytest.mark.parametrize("days_long", [1, 20])
def test_mean__beside_a_long_window__is_of_every_closed_decision(two_arms: Start, days_long: int, pending: str) -> None:
    """Intervals at the end of a long window are hours long: what is closed of them is shown, what
    is open is not."""
    window = (
        days_long * DAY + int(timezone.now().timestamp()) % 21_600 + 300
    )  # closed until just before an interval's end
    experiment = two_arms(
        strategy="ab",
        promotion={"auto": False},
        reward={"kind": "binary", "window_seconds": window, "default": 0, "pending": pending},
    )
    begin_earlier(experiment, (days_long + 40) * DAY)
    rng = random.Random(1)
    for i in range(100):
        arm = "ab"[i % 2]
        long_ago = decide(experiment, arm, seconds_ago=(days_long + 1 + rng.random() * 20) * DAY, unit=f"u{i}")
        reward(experiment, arm, long_ago, 1.0, delay=5)
        lately = decide(experiment, arm, seconds_ago=window + rng.uniform(90, 7200), unit=f"v{i}")
        reward(experiment, arm, lately, 0.0, delay=5)
        still_open = decide(experiment, arm, seconds_ago=window - rng.uniform(60, 3600), unit=f"w{i}")
        reward(experiment, arm, still_open, 1.0, delay=5)
    for _ in range(60):
        learn(experiment.endpoint_id)
        if ExperimentEvidence.objects.get().gone_through:
            break
    for row in results(again(experiment))["arms"]:
        assert row["mean"] == pytest.approx(0.5)
    assert rebuild(again(experiment), write=False) == []


@pytest.mark.parametrize("given", [{}, {"default": 0}, {"default": 0, "pending": "exposure"}])
def test_shadow__with_rewards__is_equal_to_its_ledger(two_arms: Start, given: dict[str, Any]) -> None:
    experiment = two_arms(strategy="shadow", reward={"kind": "binary", "window_seconds": 1} | given)
    begin_earlier(experiment)
    for i in range(20):
        reward(experiment, "a", decide(experiment, "a", seconds_ago=60, share=1.0, unit=f"u{i}"), float(i % 2))
    learn(experiment.endpoint_id)
    assert rebuild(again(experiment), write=False) == []


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e200])
def test_shadow__outcome_that_is_no_number__stops_nothing_beside_it(two_arms: Start, wrong: float) -> None:
    experiment = two_arms(strategy="shadow", guardrails=[COST], reward={"kind": "binary", "window_seconds": 60})
    begin_earlier(experiment)
    decisions = [decide(experiment, "a", seconds_ago=300) for _ in range(20)]
    shadows._store(experiment, [prediction(experiment, each) for each in decisions])
    for each in decisions:
        told(experiment, "a", each, 1.0, "cost")
        told(experiment, "a", each, wrong if each == decisions[0] else 1.0, "outcome")
    learn(experiment.endpoint_id)
    assert WatchedValues.objects.get().count == 20
    shown = next(arm["shadow"] for arm in results(again(experiment))["arms"] if arm["name"] == "b")
    assert shown["outcomes"]["count"] == 19
    assert shown["outcomes"]["mean_absolute_error"] == 0.0
    assert rebuild(again(experiment), write=False) == []


def test_shadow__copy_of_a_day_that_was_dropped__is_not_counted(two_arms: Start) -> None:
    experiment = two_arms(strategy="shadow", reward={"kind": "binary", "window_seconds": 60})
    begin_earlier(experiment, 6 * DAY)
    decisions = [decide(experiment, "a", seconds_ago=3.5 * DAY - i, share=1.0) for i in range(10)]
    for each in decisions:
        told(experiment, "a", each, 1.0, "outcome")
    shadows._store(experiment, [prediction(experiment, each) for each in decisions[:5]])
    learn(experiment.endpoint_id)
    assert days.drop_old_days(timezone.now(), 1).closed
    shadows._store(experiment, [prediction(experiment, each) for each in decisions[5:]])  # its worker was away
    learn(experiment.endpoint_id)
    assert rebuild(again(experiment), write=False) == []


def test_day__outcome_of_it_that_waits_to_be_scored__keeps_it(two_arms: Start) -> None:
    experiment = two_arms(strategy="shadow", reward={"kind": "binary", "window_seconds": 60})
    begin_earlier(experiment, 6 * DAY)
    decisions = [decide(experiment, "a", seconds_ago=3.5 * DAY - i, share=1.0) for i in range(10)]
    shadows._store(experiment, [prediction(experiment, each) for each in decisions])
    learn(experiment.endpoint_id)
    for each in decisions:
        told(experiment, "a", each, 1.0, "outcome")
    dropped = days.drop_old_days(timezone.now(), 1)
    assert dropped.closed == []
    assert "not summed yet" in dropped.blocked
    learn(experiment.endpoint_id)
    assert days.drop_old_days(timezone.now(), 1).closed
    assert rebuild(again(experiment), write=False) == []
