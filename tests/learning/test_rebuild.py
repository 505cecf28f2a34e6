"""The ledger alone gives what was learned: whatever way it came about, and while learning goes
on."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning import kept_intervals
from noregret.learning.buckets import floor_to_bucket
from noregret.learning.kept import snapshot
from noregret.learning.locks import endpoint_lock
from noregret.learning.models import Addition, ArmInterval, ArmStatistics, ExperimentEvidence
from noregret.learning.rebuild import Computed, rebuild
from noregret.learning.unfinished import unsettled
from noregret.rollout.transitions import move
from noregret.steering import pending
from noregret.steering.round import learn

from serving.models import Reward
from tests.learning.past_traffic import WINDOW, begin_earlier, decide, fill, reward

Start = Callable[..., Experiment]
COUNTED = {"reward": {"kind": "binary", "window_seconds": 1, "default": 0}, "promotion": {"auto": False}}


def test_rebuild__writes_back_what_was_lost(two_arms: Start) -> None:
    experiment = two_arms(**COUNTED)
    begin_earlier(experiment)
    fill(experiment, {"a": (5, 3), "b": (2, 7)})
    decide(experiment, "b")
    learn(experiment.endpoint_id)
    held = ExperimentEvidence.objects.values().get()
    statistics = list(ArmStatistics.objects.order_by("pk").values())
    ArmStatistics.objects.filter(arm__name="a").delete()
    ArmStatistics.objects.update(latencies=[7], failures=3)
    ArmInterval.objects.filter(arm__name="b").delete()
    ExperimentEvidence.objects.all().delete()
    said = "\n".join(rebuild(experiment, write=False))
    for expected in (
        "a: has no statistics",
        "b: failures is 3, the ledger has 0",
        "b: interval",
        "evidence: there is none",
    ):
        assert expected in said
    rebuild(experiment, write=True)
    assert rebuild(experiment, write=False) == []
    again = ExperimentEvidence.objects.values().get()
    assert again["matured"] == held["matured"] == 18
    assert again["state"] == held["state"]
    # Not further than the last marked bucket; what lies between holds nothing that was not marked.
    assert timezone.now() - timedelta(minutes=3) < again["closed_until"] <= held["closed_until"]
    restored = list(ArmStatistics.objects.order_by("pk").values())
    assert [{k: v for k, v in row.items() if not isinstance(v, float)} for row in restored] == [
        {k: v for k, v in row.items() if not isinstance(v, float)} for row in statistics
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: Reward.objects.filter(value=1).update(value=0), "a: mean is"),
        (lambda: Reward.objects.filter(value=1).delete(), "a: rewards is"),
        (lambda: ArmStatistics.objects.filter(arm__name="b").update(decisions=99), "b: decisions is 99"),
        (lambda: ExperimentEvidence.objects.update(matured=1), "evidence: matured is 1"),
        (lambda: Reward.objects.filter(value=1).update(matured=False), "evidence: its open strata"),
        (lambda: ArmInterval.objects.update(reward_total=0.5), "a: interval from"),
    ],
    ids=["value", "deleted", "statistics", "matured", "mark", "interval"],
)
def test_check__any_row_altered__is_told_and_exits_1(
    two_arms: Start, capsys: pytest.CaptureFixture[str], change: Callable[[], object], said: str
) -> None:
    experiment = two_arms(**WINDOW, promotion={"auto": False})
    begin_earlier(experiment)
    fill(experiment, {"a": (3, 1), "b": (1, 3)})
    learn(experiment.endpoint_id)
    call_command("rebuild", "--check")
    assert "e: equal to the ledger" in capsys.readouterr().out
    change()
    with pytest.raises(SystemExit) as ended:
        call_command("rebuild", "--check", "--experiment", "e")
    assert ended.value.code == 1
    assert said in capsys.readouterr().out


def test_rebuild__several_days__are_one_sum(two_arms: Start) -> None:
    experiment = two_arms()
    begin_earlier(experiment, 5 * 86_400)
    for days in (4, 3, 1, 0):
        for value in (0.0, 1.0, 1.0):
            reward(experiment, "a", decide(experiment, "a", seconds_ago=days * 86_400 + 60), value)
    learn(experiment.endpoint_id)
    with snapshot():
        sums = Computed(experiment).by_itself().documents()["arms"]
    a = str(experiment.arms.get(name="a").pk)
    assert sums["decisions"] == {a: 12}
    assert sums["moments"]["mean"][0] == pytest.approx(2 / 3)
    assert rebuild(experiment, write=False) == []


def test_check__while_learning_goes_on__sees_one_state(two_arms: Start) -> None:
    """Without a lock: rows, marks and sums are committed together, and a snapshot of the database
    holds all of them or none."""
    experiment = two_arms(**COUNTED)
    begin_earlier(experiment)
    over = threading.Event()

    def traffic() -> None:
        try:
            while not over.is_set():
                for arm in "ab":
                    decide(experiment, arm, seconds_ago=0)
                    reward(experiment, arm, decide(experiment, arm, seconds_ago=0), 1.0)
                learn(experiment.endpoint_id)
        finally:
            connection.close()

    learner = threading.Thread(target=traffic)
    learner.start()
    found: list[str] = []
    began = time.monotonic()
    try:
        while time.monotonic() < began + 8.0:  # windows of a second, and a grace of two: decisions mature meanwhile
            found += rebuild(experiment, write=False)
    finally:
        over.set()
        learner.join()
    assert found == []
    assert ExperimentEvidence.objects.get().matured > 20


def test_check__while_a_learner_holds_the_endpoint__does_not_wait(two_arms: Start) -> None:
    experiment = two_arms()
    found: list[list[str]] = []

    def check() -> None:
        try:
            found.append(rebuild(experiment, write=False))
        finally:
            connection.close()

    with endpoint_lock(experiment.endpoint_id):
        checker = threading.Thread(target=check)
        checker.start()
        checker.join(timeout=20)
    assert found == [[]]


def test_rebuild__of_nothing_that_began__says_so(two_arms: Start) -> None:
    with pytest.raises(CommandError, match="no experiment nobody has begun"):
        call_command("rebuild", "--experiment", "nobody")


POLICIES: dict[str, dict[str, Any]] = {
    "bandit": {},
    "ab": {"strategy": "ab"},
    "forgetting": {"policy": {"name": "thompson", "params": {"discount": 0.999}}},
    "contextual": {
        "policy": {"name": "lin-thompson"},
        "context": {"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]},
    },
}


@pytest.mark.parametrize("changes", POLICIES.values(), ids=POLICIES.keys())
@pytest.mark.parametrize("default", [0, None], ids=["default", "silence"])
def test_rebuild__while_it_computes__the_learner_goes_on_and_nothing_is_lost(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], default: int | None
) -> None:
    experiment = two_arms(
        reward={"kind": "binary", "window_seconds": 1, "default": default}, promotion={"auto": False}, **changes
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (5, 3), "b": (2, 7)})
    learn(experiment.endpoint_id)
    ArmStatistics.objects.filter(arm__name="a").update(mean=0.9, failures=4)
    ArmInterval.objects.filter(arm__name="b").update(reward_total=99.0)
    ExperimentEvidence.objects.update(state={}, split={})
    learned: list[tuple[int, int]] = []

    def meanwhile() -> None:
        try:
            for arm, value in (("a", 1.0), ("b", 0.0), ("b", 1.0)):
                identity = decide(experiment, arm, seconds_ago=30, context={"age": 41})
                reward(experiment, arm, identity, value)
            decide(experiment, "b", seconds_ago=20, failed=True)
            before = Reward.objects.filter(folded=True).count()
            learn(experiment.endpoint_id)
            learned.append((before, Reward.objects.filter(folded=True).count()))
        finally:
            connection.close()

    mend = kept_intervals.mend

    def interrupted(*args: Any) -> None:
        learner = threading.Thread(target=meanwhile)
        learner.start()
        learner.join(timeout=30)
        mend(*args)
        again = threading.Thread(target=meanwhile)
        again.start()
        again.join(timeout=30)

    monkeypatch.setattr(kept_intervals, "mend", interrupted)
    assert "a: failures is 4, the ledger has 0" in rebuild(experiment, write=True)
    monkeypatch.undo()
    assert [after - before for before, after in learned] == [3, 3]
    assert rebuild(experiment, write=False) == []
    a, b = (ArmStatistics.objects.get(arm__name=name) for name in "ab")
    assert (a.decisions, a.failures, a.rewards) == (10, 0, 10)
    assert (b.decisions, b.failures, b.rewards) == (15, 2, 13)
    assert ExperimentEvidence.objects.get().noted_for is None
    assert not Addition.objects.exists()
    learn(experiment.endpoint_id)
    assert rebuild(experiment, write=False) == []


@pytest.mark.parametrize("changes", POLICIES.values(), ids=POLICIES.keys())
@pytest.mark.parametrize("default", [0, None], ids=["default", "silence"])
def test_rebuild__begun_before_any_bucket_is_closed__has_the_first_one_too(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], default: int | None
) -> None:
    """An experiment starts inside its first bucket, which is learned while the rebuild computes."""
    experiment = two_arms(
        reward={"kind": "binary", "window_seconds": 1, "default": default}, promotion={"auto": False}, **changes
    )
    started = floor_to_bucket(timezone.now(), timedelta(seconds=1)) - timedelta(seconds=60.6)
    Experiment.objects.update(started_at=started)
    experiment.refresh_from_db()
    for arm, seconds in (("a", 0.1), ("b", 0.2), ("a", 3.0), ("b", 3.1)):
        identity = decide(experiment, arm, at=started + timedelta(seconds=seconds), context={"age": 41})
        reward(experiment, arm, identity, float(arm == "a"))
    mend = kept_intervals.mend

    def interrupted(*args: Any) -> None:
        mend(*args)
        learn(experiment.endpoint_id)

    monkeypatch.setattr(kept_intervals, "mend", interrupted)
    rebuild(experiment, write=True)
    assert ExperimentEvidence.objects.get().matured == 4
    assert rebuild(experiment, write=False) == []


def test_rebuild__again_and_again_under_traffic__is_right_each_time(two_arms: Start) -> None:
    experiment = two_arms(**COUNTED)
    begin_earlier(experiment)
    over = threading.Event()

    def traffic() -> None:
        try:
            while not over.is_set():
                for arm in "ab":
                    decide(experiment, arm, seconds_ago=0)
                    reward(experiment, arm, decide(experiment, arm, seconds_ago=0), 1.0)
                learn(experiment.endpoint_id)
        finally:
            connection.close()

    learner = threading.Thread(target=traffic)
    learner.start()
    said: list[str] = []
    began = time.monotonic()
    try:
        while time.monotonic() < began + 6.0:
            said += rebuild(experiment, write=True) + rebuild(experiment, write=False)
    finally:
        over.set()
        learner.join()
    assert said == []
    assert ExperimentEvidence.objects.get().matured > 10


def test_rebuild__another_begins_meanwhile__the_first_starts_over(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes are taken for one rebuild: what another threw away must be missing in none."""
    experiment = two_arms(**COUNTED)
    begin_earlier(experiment)
    fill(experiment, {"a": (5, 3), "b": (2, 7)})
    learn(experiment.endpoint_id)
    mend = kept_intervals.mend
    nested: list[list[str]] = []

    def another(*args: Any) -> None:
        mend(*args)
        if not nested:
            nested.append([])
            nested[0] = rebuild(experiment, write=True)

    monkeypatch.setattr(kept_intervals, "mend", another)
    assert rebuild(experiment, write=True) == []
    assert nested == [[]]
    assert rebuild(experiment, write=False) == []


def test_check__many_intervals_differ__tells_some_and_counts_the_rest(two_arms: Start) -> None:
    experiment = two_arms(**COUNTED)
    begin_earlier(experiment)
    begun = timezone.now() - timedelta(seconds=600)  # once: each gets an interval of its own
    for i in range(30):
        decide(experiment, "a", at=begun - timedelta(seconds=10 * i))
    learn(experiment.endpoint_id)
    ArmInterval.objects.update(decisions=77)
    said = rebuild(experiment, write=False)
    assert len(said) == 21
    assert said[-1] == "10 more intervals differ from the ledger's"
    rebuild(experiment, write=True)
    assert rebuild(experiment, write=False) == []


def test_check__rewards_far_from_zero__rounding_is_no_difference(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "continuous", "window_seconds": 1}, promotion={"auto": False})
    begin_earlier(experiment)
    for i in range(400):
        identity = decide(experiment, "ab"[i % 2], seconds_ago=60)
        reward(experiment, "ab"[i % 2], identity, 1e9 + 0.1 * (i % 7))
        if i % 100 == 50:
            learn(experiment.endpoint_id)
    learn(experiment.endpoint_id)
    assert rebuild(experiment, write=False) == []
    assert rebuild(experiment, write=True) == []
    assert rebuild(experiment, write=False) == []


def test_rebuild__evidence_that_cannot_be_read__is_told_and_made_anew(two_arms: Start) -> None:
    experiment = two_arms(**COUNTED)
    begin_earlier(experiment)
    fill(experiment, {"a": (5, 3), "b": (2, 7)})
    learn(experiment.endpoint_id)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE learning_experimentevidence SET state = %s", [b"\0"])
    said = "\n".join(rebuild(experiment, write=False))
    assert "evidence: a packed document can't be read" in said
    rebuild(experiment, write=True)
    assert rebuild(experiment, write=False) == []
    assert learn(experiment.endpoint_id)


def test_round__sums_of_older_rules__are_made_anew_of_ended_experiments_too(two_arms: Start) -> None:
    """As after an upgrade that added a figure: the column is there, filled with its default, and
    nobody learns for what is over."""
    experiment = two_arms(strategy="ab", **COUNTED)
    begin_earlier(experiment, 7200)
    fill(experiment, {"a": (5, 3), "b": (2, 7)})
    learn(experiment.endpoint_id)
    move(experiment, "stop", actor="tests")
    Experiment.objects.update(ended_at=timezone.now() - timedelta(hours=1))
    ArmInterval.objects.update(reward_m2=0.0, failures=0)
    ArmStatistics.objects.update(delays=[])
    ExperimentEvidence.objects.update(rules=0, split={}, answers={}, closed_until=timezone.now())
    assert experiment.pk not in unsettled().values_list("pk", flat=True)
    assert rebuild(experiment, write=False) != []
    assert pending.find().learn == [experiment.endpoint_id]
    learn(experiment.endpoint_id)
    assert rebuild(experiment, write=False) == []
    assert pending.find().learn == []
