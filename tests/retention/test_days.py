"""Old days of the ledger go, and what was learned of them stays: by every strategy, in the middle
of an experiment, and under races."""

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from noregret.dashboard.experiment_shown import gone_help
from noregret.experiments.models import Experiment
from noregret.learning import kept_intervals
from noregret.learning.kept import snapshot
from noregret.learning.models import ArmInterval, ArmStatistics, ExperimentEvidence, LedgerBase
from noregret.learning.rebuild import rebuild
from noregret.redis_client import client, keys
from noregret.retention import days
from noregret.rollout.transitions import move
from noregret.steering.round import learn

from serving.ledger import horizon, partitions
from serving.models import Decision, QuarantinedEvent, Reward
from tests.conftest import ACTOR, Api
from tests.learning.past_traffic import begin_earlier, decide, reward

Start = Callable[..., Experiment]
DAY = timedelta(days=1)
AGE = [{"name": "age", "type": "number", "min": 0, "max": 100}]


def midnight(days_ago: int) -> datetime:
    return timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - days_ago * DAY


def with_partitions(days_ago: int) -> None:
    today = timezone.now().date()
    with transaction.atomic(), connection.cursor() as cursor:
        partitions.ensure(cursor, today - days_ago * DAY, today)


def traffic(experiment: Experiment, days_ago: int, *, rewarded: bool = True, **changes: Any) -> None:
    """A dozen decisions of a day, three of them around its first midnight; most of them
    rewarded."""
    start = midnight(days_ago)
    seconds = (-2.5, -0.5, 0.5, *range(3000, 3900, 100))
    for i, second in enumerate(seconds):
        arm = "ab"[i % 2]
        identity = decide(
            experiment,
            arm,
            at=start + timedelta(seconds=second),
            unit=f"unit-{i % 5}-{days_ago}" if i % 3 else None,
            context={"age": 7 * i, "secret": "x"},
            failed=i == 4,
            latency_ms=1.0 + i,
            **changes,
        )
        if rewarded and i % 4:
            reward(experiment, arm, identity, float(i % 3 == 0), delay=0.25)


def learn_through(experiment: Experiment) -> None:
    """Rounds until all is gone through, before which no day is dropped: each goes on for a part of
    a second, and on a busy machine one is not enough for days of intervals."""
    for _ in range(100):
        learn(experiment.endpoint_id)
        if ExperimentEvidence.objects.filter(experiment=experiment, gone_through=True).exists():
            return
    raise AssertionError("a hundred rounds have not gone through it")


def table_of(day: datetime) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)::text", [f"serving_decision_{day:%Y%m%d}"])
        return cursor.fetchone()[0] is not None


def drop(keep_days: int = 1) -> days.Dropped:
    return days.drop_old_days(timezone.now(), keep_days)


KINDS: dict[str, dict[str, Any]] = {
    "bandit": {},
    "ab": {"strategy": "ab"},
    "canary": {"strategy": "canary", "arms": [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}]},
    "shadow": {"strategy": "shadow"},
    "forgetting": {"policy": {"name": "thompson", "params": {"discount": 0.99}}},
    "window": {"policy": {"name": "ucb1", "params": {"sliding_window": 50}}},
    "contextual": {"policy": {"name": "lin-thompson", "params": {"discount": 0.99}}, "context": {"fields": AGE}},
    "logistic": {"policy": {"name": "logistic-thompson"}, "context": {"fields": AGE}},
    "holdout": {"holdout": 0.2},
    "sticky": {"sticky": True},
    "apprentice": {"apprentice": True},
}


SILENT = ("bandit", "ab", "canary", "contextual", "holdout")


@pytest.mark.parametrize(("kind", "default"), [*((kind, 0) for kind in KINDS), *((kind, None) for kind in SILENT)])
def test_drop__in_the_middle_of_an_experiment__rebuild_goes_on_from_the_base(
    two_arms: Start, kind: str, default: int | None
) -> None:
    # Buckets of seven seconds: one lies on both sides of each midnight.
    terms = {"kind": "binary", "window_seconds": 420, "default": default}
    experiment = two_arms(reward=terms, promotion={"auto": False}, **KINDS[kind])
    begin_earlier(experiment, 6 * 86_400)
    with_partitions(6)
    for days_ago in (5, 4, 3, 2):
        traffic(experiment, days_ago, holdout=kind == "holdout" and days_ago == 3)
    learn(experiment.endpoint_id)
    traffic(experiment, 1, rewarded=False)  # into buckets that are closed: stragglers, which enter no evidence
    learn(experiment.endpoint_id)
    before = list(ArmStatistics.objects.order_by("pk").values())
    rows = Decision.objects.count()
    assert rebuild(experiment, write=False) == []

    dropped = drop()
    assert dropped.blocked == ""
    assert [str(day) for day in dropped.closed][-1] == f"{midnight(2):%Y-%m-%d}"
    assert horizon.begins_at() == midnight(1)
    assert Decision.objects.count() == 10 < rows
    assert not table_of(midnight(3))
    assert table_of(midnight(1))
    assert list(ArmStatistics.objects.order_by("pk").values()) == before
    assert rebuild(experiment, write=False) == []

    traffic(experiment, 0) if timezone.now().hour >= 2 else None
    learn(experiment.endpoint_id)
    assert rebuild(experiment, write=False) == []
    ArmStatistics.objects.update(decisions=1, mean=0.1, latencies=[3])
    ExperimentEvidence.objects.update(state={}, split={}, answers={}, learned={}, matured=3)
    ArmInterval.objects.filter(start__gte=midnight(1)).delete()
    assert rebuild(experiment, write=True)
    assert rebuild(experiment, write=False) == []
    again = list(ArmStatistics.objects.order_by("pk").values())
    assert sum(row["decisions"] for row in again) >= sum(row["decisions"] for row in before) == rows


def test_drop__day_by_day_or_at_once__is_the_same_base(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 420}, promotion={"auto": False})
    begin_earlier(experiment, 6 * 86_400)
    for days_ago in (5, 4, 3, 2):  # into the default partitions: days without one of their own go too
        traffic(experiment, days_ago)
    learn(experiment.endpoint_id)
    with snapshot():
        from noregret.learning.rebuild import Computed

        whole = Computed(experiment, until=midnight(2)).by_itself().documents()
    assert drop(4).closed
    assert drop(3).closed
    assert drop(2).closed
    base = LedgerBase.objects.get()
    assert base.until == midnight(2)
    assert base.sums["arms"]["decisions"] == whole["arms"]["decisions"]
    assert base.sums["evidence"]["matured"] == whole["evidence"]["matured"] > 0
    assert base.sums["arms"]["moments"]["mean"] == pytest.approx(whole["arms"]["moments"]["mean"])
    assert base.sums["evidence"]["evidence"] == whole["evidence"]["evidence"]
    assert rebuild(experiment, write=False) == []
    assert drop(2).closed == []


def test_drop__what_is_not_learned_yet__stays(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 86_400.0 * 5}, promotion={"auto": False})
    begin_earlier(experiment, 6 * 86_400)
    traffic(experiment, 5)
    assert "wait to be drained" in drop().blocked or "has learned until" in drop().blocked
    learn(experiment.endpoint_id)
    traffic(experiment, 3)
    learn(experiment.endpoint_id)
    blocked = drop()
    assert [str(day) for day in blocked.closed] == [f"{midnight(6):%Y-%m-%d}"]  # its windows are over
    assert "has learned until" in blocked.blocked or "wait" in blocked.blocked
    assert Decision.objects.count() == 24 - 2
    Experiment.objects.filter(pk=experiment.pk).update(reward=experiment.reward | {"window_seconds": 60.0})
    learn(experiment.endpoint_id)
    decide(experiment, "a", at=midnight(5) + timedelta(hours=1))
    assert "wait to be drained" in drop().blocked
    learn(experiment.endpoint_id)
    # Feedback within its window that no round has folded: a worker that died after it had closed
    # the bucket.
    Reward.objects.filter(decided_at__lt=midnight(4)).update(folded=False)
    assert "not folded" in drop().blocked
    assert horizon.begins_at() == midnight(5)


def test_drop__experiment_that_is_over__closes_its_days(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60}, promotion={"auto": False})
    begin_earlier(experiment, 6 * 86_400)
    traffic(experiment, 5)
    learn_through(experiment)
    move(experiment, "stop", actor=ACTOR)
    # Its last buckets were closed then: none of the days after has any.
    Experiment.objects.update(ended_at=midnight(4))
    ExperimentEvidence.objects.update(closed_until=midnight(4) + timedelta(minutes=16))
    dropped = drop()
    assert len(dropped.closed) >= 2, dropped
    assert rebuild(experiment, write=False) == []
    assert not Decision.objects.exists()


def test_dropped__decision_that_comes_after_all__is_set_aside(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60}, promotion={"auto": False})
    begin_earlier(experiment, 6 * 86_400)
    traffic(experiment, 5)
    learn_through(experiment)
    dropped = drop()
    assert dropped.closed, dropped
    before = list(ArmStatistics.objects.order_by("pk").values())
    decide(experiment, "a", at=midnight(5) + timedelta(hours=1))
    kept = decide(experiment, "b", seconds_ago=90)
    learn(experiment.endpoint_id)
    assert [row.id.bytes for row in Decision.objects.all()] == [kept]
    assert "the ledger begins at" in QuarantinedEvent.objects.get().problem
    assert client().xlen(keys().decisions("pages")) == 0
    after = list(ArmStatistics.objects.order_by("pk").values())
    assert sum(row["decisions"] for row in after) == sum(row["decisions"] for row in before) + 1
    assert rebuild(experiment, write=False) == []


def test_dropped__feedback__is_late_and_leaves_no_row(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60}, promotion={"auto": False})
    decided = alice.post("/api/v1/endpoints/pages/decide", {"unit": "u"})["decision_id"]
    assert alice.post("/api/v1/feedback", {"decision_id": decided, "value": 1}).body == {"status": "recorded"}
    with transaction.atomic():
        horizon.move_to(timezone.now() + timedelta(minutes=1))
    Reward.objects.all().delete()
    for body in ({"value": 1}, {"value": 0}, {"value": 3.5, "metric": "minutes"}):
        answer = alice.post("/api/v1/feedback", {"decision_id": decided} | body)
        assert (answer.status, answer["status"]) == (202, "late")
    batch = alice.post("/api/v1/feedback", {"feedback": [{"decision_id": decided, "value": 1}]})
    assert [item["status"] for item in batch["results"]] == ["late"]
    assert not Reward.objects.exists()
    assert experiment.pk


def test_drop__while_a_rebuild_reads__waits_for_it(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60}, promotion={"auto": False})
    begin_earlier(experiment, 6 * 86_400)
    traffic(experiment, 5)
    learn(experiment.endpoint_id)
    said: list[days.Dropped] = []

    def retain() -> None:
        try:
            said.append(drop())
        finally:
            connection.close()

    with snapshot():
        horizon.hold_days()
        worker = threading.Thread(target=retain)
        worker.start()
        worker.join(timeout=60)
        assert said[0].closed == []
        assert "the next round tries again" in said[0].blocked
    assert drop().closed


def test_drop__straggler_while_it_computes__is_not_lost(two_arms: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision that a web process kept on its disk comes into a day between its sums and its end:
    the sums are made again."""
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60, "default": 0}, promotion={"auto": False})
    begin_earlier(experiment, 6 * 86_400)
    traffic(experiment, 5)
    learn(experiment.endpoint_id)
    mend = kept_intervals.mend

    def straggler(*args: Any) -> None:
        mend(*args)
        monkeypatch.undo()
        decide(experiment, "a", at=midnight(6) + timedelta(hours=3))
        learn(experiment.endpoint_id)

    monkeypatch.setattr(kept_intervals, "mend", straggler)
    assert drop().blocked.endswith("it changed, or somebody reads it; the next round tries again")
    assert len(drop().closed) >= 2
    assert rebuild(experiment, write=False) == []
    assert LedgerBase.objects.get().sums["arms"]["decisions"] == {
        str(row.arm_id): row.decisions for row in ArmStatistics.objects.all()
    }


def test_close__day_that_another_worker_has_closed__leaves_its_base(two_arms: Start) -> None:
    """A worker that listed the days before the other closed them comes to the first of them."""
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60}, promotion={"auto": False})
    begin_earlier(experiment, 8 * 86_400)
    with_partitions(7)
    for days_ago in (6, 5):
        traffic(experiment, days_ago)
    learn_through(experiment)
    listed = days.old_days(timezone.now(), 1)
    assert [days._close(day) for day in listed[:2]] == [True, True]
    base = LedgerBase.objects.values("until", "sums").get()
    assert [days._close(day) for day in listed[:2]] == [False, False]
    assert LedgerBase.objects.values("until", "sums").get() == base
    assert drop().closed == listed[2:]
    assert rebuild(experiment, write=False) == []


def test_drop__two_workers__one_base(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60}, promotion={"auto": False})
    begin_earlier(experiment, 8 * 86_400)
    with_partitions(7)
    for days_ago in (6, 5, 4, 3):
        traffic(experiment, days_ago)
    learn(experiment.endpoint_id)
    before = list(ArmStatistics.objects.order_by("pk").values("decisions", "rewards"))
    failures: list[BaseException] = []

    def retain() -> None:
        try:
            drop()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=retain) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    drop()
    assert failures == []
    assert not Decision.objects.exists()
    assert list(ArmStatistics.objects.order_by("pk").values("decisions", "rewards")) == before
    assert rebuild(experiment, write=False) == []


def test_drop__table_that_is_in_use__goes_the_next_time(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60}, promotion={"auto": False})
    begin_earlier(experiment, 6 * 86_400)
    with_partitions(5)
    traffic(experiment, 3)
    learn(experiment.endpoint_id)
    said: list[days.Dropped] = []

    def retain() -> None:
        try:
            said.append(drop())
        finally:
            connection.close()

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM serving_decision")
        worker = threading.Thread(target=retain)
        worker.start()
        worker.join(timeout=60)
        assert said[0].closed
    assert table_of(midnight(3))
    assert rebuild(experiment, write=False) == []  # closed, and not read any more
    assert drop().tables
    assert not table_of(midnight(3))


def test_old_days__none_where_nothing_is_old(two_arms: Start) -> None:
    two_arms()
    assert days.old_days(timezone.now(), 400) == []
    assert all(isinstance(day, date) for day in days.old_days(timezone.now() + 401 * DAY, 400))


def test_dropped__listing_evaluation_and_page__say_from_when_on_there_are_rows(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 60, "default": 0}, promotion={"auto": False})
    begin_earlier(experiment, 6 * 86_400)
    for days_ago in (5, 1):
        traffic(experiment, days_ago)
    learn(experiment.endpoint_id)
    listing = "/api/v1/experiments/e/decisions.ndjson"
    whole = alice.get(listing)
    assert whole.content.count(b"\n") == 24
    assert "Rows-From" not in whole.response
    assert alice.get("/api/v1/experiments/e")["rows_from"] is None
    assert drop().closed
    begins = LedgerBase.objects.get().until
    said = begins.isoformat().replace("+00:00", "Z")
    rest = alice.get(listing)
    assert rest.content.count(b"\n") == Decision.objects.count() < 24
    assert rest.response["Rows-From"] == said
    assert alice.get("/api/v1/experiments/e")["rows_from"] == said
    evaluation = alice.get("/api/v1/experiments/e/results?evaluate=uniform")["evaluation"]
    assert f"decisions before {begins:%Y-%m-%d} are not in the ledger any more" in evaluation["warnings"][-1]
    assert f"before {begins:%Y-%m-%d} were dropped" in gone_help(experiment)
