"""Intervals that grow longer with age: the same sums, a bounded number, and ten seconds where
something needs them."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.experiments.policies import made_policy
from noregret.learning.coarsening import AGE, coarsen
from noregret.learning.knowledge import known_to_policy
from noregret.learning.models import ArmInterval, ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.learning.served import served_since
from noregret.steering.round import learn

from tests.learning.past_traffic import decide, reward
from tests.learning.told import over_time

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
BINARY = {"kind": "binary", "window_seconds": 1}

_FILL = """
INSERT INTO learning_arminterval (arm_id, start, decisions, failures, rewards, reward_total, reward_m2)
SELECT arm, date_bin('10 seconds', %(end)s::timestamptz, 'epoch') - make_interval(secs => 10 * i), 5, i %% 3, 4, 1e9 + i %% 7, i %% 5
FROM unnest(%(arms)s::bigint[]) AS arm, generate_series(0, %(count)s - 1) AS i
"""


def begun(two_arms: Start, days: float, **changes: Any) -> Experiment:
    """An experiment that began so long ago."""
    experiment = two_arms(**{"reward": BINARY, **changes})
    Experiment.objects.filter(pk=experiment.pk).update(started_at=timezone.now() - timedelta(days=days))
    return Experiment.objects.select_related("endpoint").get(pk=experiment.pk)


def fill(experiment: Experiment, days: float) -> None:
    arms = list(experiment.arms.values_list("pk", flat=True))
    with connection.cursor() as cursor:
        cursor.execute(_FILL, {"arms": arms, "end": timezone.now(), "count": int(days * 8640)})


def coarsen_all(experiment: Experiment) -> None:
    for _ in range(100):
        before = ExperimentEvidence.objects.get(experiment=experiment).coarse_until
        coarsen(experiment)
        if ExperimentEvidence.objects.get(experiment=experiment).coarse_until == before:
            return
    raise AssertionError("it does not end")


def totals() -> dict[str, Any]:
    return ArmInterval.objects.aggregate(*(Sum(name) for name in ("decisions", "failures", "rewards", "reward_total")))


def m2_of_all(arm: int) -> float:
    rows = np.array(ArmInterval.objects.filter(arm=arm).values_list("rewards", "reward_total", "reward_m2"))
    mean = rows[:, 1].sum() / rows[:, 0].sum()
    return float((rows[:, 2] + rows[:, 0] * (rows[:, 1] / rows[:, 0] - mean) ** 2).sum())


def test_intervals__that_grow_old__are_few_hold_the_same_and_are_no_longer_than_a_sixtieth_of_their_age(
    two_arms: Start,
) -> None:
    experiment = begun(two_arms, 4)
    fill(experiment, 4)
    arm = experiment.arms.get(name="a").pk
    held, m2 = totals(), m2_of_all(arm)
    coarsen_all(experiment)
    after = totals()
    assert after["reward_total__sum"] == pytest.approx(held["reward_total__sum"], rel=1e-12)
    assert {**after, "reward_total__sum": 0} == {**held, "reward_total__sum": 0}
    assert m2_of_all(arm) == pytest.approx(m2, rel=1e-6)
    now = timezone.now()
    for row in ArmInterval.objects.all():
        assert row.seconds == 10 or now - row.start >= timedelta(seconds=AGE * row.seconds)
    # 34,560 of ten seconds; the last hour's, and for each length at most AT_ONCE more than are old
    # enough for the next.
    assert ArmInterval.objects.filter(arm=arm).count() < 420 + 610 + 370 + 100
    rows = list(ArmInterval.objects.values())
    coarsen_all(experiment)
    assert list(ArmInterval.objects.values()) == rows


def test_intervals__chart__has_its_points_after_they_grew_long(two_arms: Start) -> None:
    experiment = begun(two_arms, 4)
    fill(experiment, 4)
    before = over_time(experiment)
    coarsen_all(experiment)
    after = over_time(experiment)
    assert abs(len(before["at"]) - len(after["at"])) <= 1  # one at an edge may fall on either side
    assert np.nanmax(np.abs(np.array(after["arms"][0]["share"], dtype=float) - 0.5)) < 1e-9


def test_intervals__of_an_ended_experiment__stay_as_long_as_they_were(two_arms: Start) -> None:
    experiment = begun(two_arms, 2)
    fill(experiment, 0.01)
    Experiment.objects.filter(pk=experiment.pk).update(
        status="completed", outcome="stopped", ended_at=timezone.now() - timedelta(days=2) + timedelta(minutes=5)
    )
    experiment.refresh_from_db()
    coarsen_all(experiment)
    assert set(ArmInterval.objects.values_list("seconds", flat=True)) == {10}


@pytest.mark.parametrize("memory", [{"discount": 0.9995}, {"sliding_window": 20_000}])
def test_intervals__that_a_memory_reaches_back_to__keep_ten_seconds(two_arms: Start, memory: dict[str, Any]) -> None:
    experiment = begun(two_arms, 2, policy={"name": "thompson", "params": memory})
    fill(experiment, 2)
    arms = list(experiment.arms.order_by("position"))
    before = known_to_policy(experiment, arms, made_policy(experiment)).remembered
    coarsen_all(experiment)
    assert ArmInterval.objects.filter(seconds=600).exists()
    after = known_to_policy(experiment, arms, made_policy(experiment)).remembered
    assert (after.count.tolist(), after.mean.tolist()) == (before.count.tolist(), before.mean.tolist())


def test_intervals__that_hold_the_step_of_a_canary__keep_ten_seconds(two_arms: Start) -> None:
    experiment = begun(two_arms, 3, strategy="canary", canary={"steps": [0.5], "bake_seconds": 1e6})
    fill(experiment, 3)
    since = timezone.now() - timedelta(days=1, hours=3, seconds=17)
    Experiment.objects.filter(pk=experiment.pk).update(canary_since=since)
    experiment.refresh_from_db()
    arm = experiment.arms.get(name="b")
    before = served_since(experiment, arm, since)
    coarsen_all(experiment)
    assert ArmInterval.objects.filter(arm=arm).count() < 2000
    assert served_since(experiment, arm, since) == before


def test_intervals__open_window__is_counted_as_before(two_arms: Start) -> None:
    # Silence means nothing, and a policy that counts its pulls is told of those that are out.
    experiment = begun(
        two_arms,
        3,
        policy={"name": "ucb1"},
        reward={"kind": "binary", "window_seconds": 2 * 86_400, "default": None},
    )
    fill(experiment, 3)
    closed = timezone.now() - timedelta(days=2)
    ExperimentEvidence.objects.filter(experiment=experiment).update(closed_until=closed)
    arms = list(experiment.arms.order_by("position"))
    before = known_to_policy(experiment, arms, made_policy(experiment)).open
    coarsen_all(experiment)
    after = known_to_policy(experiment, arms, made_policy(experiment)).open
    assert before.tolist() == pytest.approx(after.tolist(), rel=1 / 1000)


def test_rebuild__after_intervals_grew_long__equals_the_live_state_and_writes_the_same(two_arms: Start) -> None:
    experiment = begun(two_arms, 0.6)
    for i in range(72):
        seconds = 60.0 + 600.0 * i
        arm = "ab"[i % 2]
        reward(experiment, arm, decide(experiment, arm, seconds_ago=seconds), float(i % 3 == 0))
        decide(experiment, arm, seconds_ago=seconds + 15.0, failed=i % 7 == 0)
    learn(experiment.endpoint_id)
    coarsen_all(experiment)
    assert set(ArmInterval.objects.values_list("seconds", flat=True)) == {10, 60, 600}
    columns = ("arm_id", "start", "seconds", "decisions", "failures", "rewards")
    shown = sorted(ArmInterval.objects.values_list(*columns))
    assert rebuild(experiment, write=True) == []
    assert sorted(ArmInterval.objects.values_list(*columns)) == shown
    reward(experiment, "b", decide(experiment, "b", seconds_ago=20_000.0), 1.0)
    learn(experiment.endpoint_id)
    assert ArmInterval.objects.count() == len(shown) + 1  # beside a longer one, until the next time
    assert rebuild(experiment, write=False) == []
    ArmInterval.objects.filter(seconds=600).update(decisions=99)
    assert any("interval from" in line for line in rebuild(experiment, write=True))
    assert rebuild(experiment, write=False) == []


def test_intervals__merged_by_two_while_another_adds__lose_nothing(two_arms: Start) -> None:
    experiment = begun(two_arms, 1)
    fill(experiment, 1)
    arm = experiment.arms.get(name="a").pk
    held = totals()["decisions__sum"]
    start = timezone.now() - timedelta(hours=20)
    failed: list[BaseException] = []

    def one(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    def add() -> None:
        with connection.cursor() as cursor:
            for i in range(200):
                at: datetime = start + timedelta(seconds=60 * i)
                cursor.execute(
                    "INSERT INTO learning_arminterval AS held (arm_id, start, decisions, rewards, reward_total) "
                    "VALUES (%s, date_bin('10 seconds', %s, 'epoch'), 1, 0, 0) "
                    "ON CONFLICT (arm_id, start) DO UPDATE SET decisions = held.decisions + 1",
                    [arm, at],
                )

    works = (lambda: coarsen_all(experiment), lambda: coarsen_all(experiment), add)
    threads = [threading.Thread(target=one, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert totals()["decisions__sum"] == held + 200
