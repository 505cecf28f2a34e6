"""A rebuild in parts, by many processes, gives what one by itself does; whoever dies in between."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.core.management import call_command
from django.db import connection
from noregret.experiments.models import Experiment
from noregret.learning import kept, workers
from noregret.learning.kept import snapshot
from noregret.learning.models import ArmInterval, ArmStatistics, ExperimentEvidence, LedgerSums, RebuildPart
from noregret.learning.rebuild import Computed, rebuild
from noregret.learning.workers import PartFailed, Workers, compute_part
from noregret.steering.round import learn

from serving.models import Reward
from tests.learning.past_traffic import begin_earlier, decide, reward
from tests.learning.test_celery import Learners, learners  # noqa: F401 - a fixture

Start = Callable[..., Experiment]
AGES = {"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]}
MEAN = {"metric": "reward", "action": "pause", "max": 2e9}
DOLLARS = {"kind": "continuous", "minimum": 1e9, "maximum": 1e9 + 1.0, "window_seconds": 1}
KINDS: dict[str, dict[str, Any]] = {
    "bandit": {"reward": {"kind": "binary", "window_seconds": 1}},
    "by unit": {"strategy": "ab", "reward": DOLLARS},
    "held out": {"holdout": 0.2, "reward": DOLLARS | {"default": 1e9}, "guardrails": [MEAN]},
    "contextual": {"policy": {"name": "lin-thompson"}, "context": AGES, "reward": DOLLARS | {"default": 1e9}},
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "DECISIONS_AT_ONCE", 12)


@pytest.fixture
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """And that is known at once: threads of this process compute the parts."""
    monkeypatch.setattr(workers, "UNTAKEN_SECONDS", 0.0)


def with_traffic(two_arms: Start, **changes: Any) -> Experiment:
    experiment = two_arms(**changes, promotion={"auto": False})
    begin_earlier(experiment, 3 * 86_400)
    least = 1e9 if experiment.reward["kind"] == "continuous" else 0.0
    for i in range(60):
        arm, days = "ab"[i % 3 % 2], i % 3
        identity = decide(experiment, arm, seconds_ago=days * 86_400 + 60 + i, unit=f"u{i % 11}", context={"age": i})
        if i % 4:
            reward(experiment, arm, identity, least + float(i % 5 == 0))
    for _ in range(3):
        learn(experiment.endpoint_id)
    return experiment


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_rebuild__in_parts__is_the_one_of_a_single_process(
    two_arms: Start, nobody_listens: None, changes: dict[str, Any]
) -> None:
    experiment = with_traffic(two_arms, **changes)
    asked: list[int] = []
    by_two = Workers(2, lambda done, of: asked.append(of))
    assert rebuild(experiment, write=False) == rebuild(experiment, write=False, compute=by_two) == []
    assert asked[-1] >= 12, "days cut in parts: of the kept sums, and of those that are resummed"
    with snapshot():
        alone = Computed(experiment).by_itself().documents()
        parts = Computed(experiment)
        parts.join(Workers(3)(experiment, parts.parts))
        assert parts.documents() == alone, "to the last bit"

    ArmStatistics.objects.filter(arm__name="a").update(mean=0.9, failures=4, delays=[1])
    ExperimentEvidence.objects.update(state={}, split={}, matured=1)
    ArmInterval.objects.filter(arm__name="b").update(reward_total=99.0)
    held = LedgerSums.objects.get()
    LedgerSums.objects.update(state=held.state | {"decisions": [1, 1]})
    told = rebuild(experiment, write=False)
    assert len(told) > 4
    assert rebuild(experiment, write=True, compute=by_two) == told
    assert rebuild(experiment, write=False) == []
    assert not RebuildPart.objects.exists()


def test_units__an_arm_that_the_live_sums_do_not_know__has_the_same_sums(two_arms: Start, nobody_listens: None) -> None:
    """Then each part takes outcomes from a level of its own."""
    experiment = with_traffic(two_arms, **KINDS["held out"])
    held = LedgerSums.objects.get()
    LedgerSums.objects.update(state=held.state | {"parts": {}})
    said = rebuild(experiment, write=True, compute=Workers(2))
    assert said == rebuild(experiment, write=False) + said, "made anew, and right now"
    LedgerSums.objects.update(state=held.state | {"parts": {}})
    assert said == rebuild(experiment, write=False, compute=Workers(1))


LOCK = 790_790
# Whoever stores a piece waits for the one who holds the lock.
_HOLD = f"""
CREATE OR REPLACE FUNCTION held_piece() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NEW; END';
CREATE TRIGGER held_piece BEFORE UPDATE ON learning_rebuildpart FOR EACH ROW WHEN (NEW.piece IS NOT NULL)
EXECUTE FUNCTION held_piece();
SELECT pg_advisory_lock({LOCK});
"""
_GONE = f"""
SELECT pg_advisory_unlock({LOCK}) FROM (SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE wait_event = 'advisory' AND datname = current_database()) AS killed
"""  # noqa: S608 - constants


@pytest.fixture
def pieces_wait(platform: None) -> Iterator[None]:
    """Pieces are computed, and not stored before `_GONE` is executed."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLD)
        yield
        cursor.execute("SELECT pg_advisory_unlock_all()")
        cursor.execute("DROP TRIGGER held_piece ON learning_rebuildpart")


def wait_for(true: Callable[[], bool], seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_worker__killed_in_the_middle_of_a_part__another_takes_it_and_nothing_is_wrong(
    two_arms: Start,
    learners: Learners,  # noqa: F811
    pieces_wait: None,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    experiment = with_traffic(two_arms, **KINDS["bandit"])
    monkeypatch.setattr(workers, "UNTAKEN_SECONDS", 60.0)  # no thread of this process takes any
    # The process of the tests has an application of Celery's with keys of its own.
    told_by = Celery(broker=settings.REDIS_URL.replace("unix://", "redis+socket://", 1))
    told_by.conf.broker_transport_options = {"global_keyprefix": f"{settings.REDIS_PREFIX}celery:"}
    monkeypatch.setattr(workers, "app", told_by)
    first = learners.worker("--queues", "rebuild")
    told: list[str] = ["nothing"]

    def check() -> None:
        try:
            told[:] = rebuild(experiment, write=False, compute=Workers(1))
        finally:
            connection.close()

    checking = threading.Thread(target=check)
    checking.start()
    wait_for(lambda: RebuildPart.objects.filter(taken_until__isnull=False).exists())
    learners.kill(first)
    with connection.cursor() as cursor:
        cursor.execute(_GONE)
    attempts = list(RebuildPart.objects.order_by("place").values_list("attempts", flat=True))
    assert attempts[0] == 1
    assert sum(attempts) == 1, "one at a time was asked for"
    learners.worker("--queues", "rebuild")
    wait_for(lambda: not RebuildPart.objects.filter(place=0, piece__isnull=True).exists())
    assert RebuildPart.objects.filter(place=0, attempts=2).exists() or not checking.is_alive()
    checking.join(timeout=180)
    assert told == []


def test_part__that_can_not_be_computed__ends_the_rebuild_with_its_reason(
    two_arms: Start, nobody_listens: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_traffic(two_arms, **KINDS["bandit"])

    def broken(*_: object) -> Iterator[Any]:
        raise ValueError("a row that can't be read")

    monkeypatch.setattr("noregret.learning.kept_arms.rows", broken)
    with pytest.raises(PartFailed, match=r"failed 5 times: ValueError: a row that can't be read"):
        rebuild(experiment, write=True, compute=Workers(2))
    monkeypatch.undo()
    assert ExperimentEvidence.objects.get().noted_for is None
    assert rebuild(experiment, write=False) == []


def test_part__of_a_rebuild_that_is_over__is_left_alone(two_arms: Start) -> None:
    experiment = with_traffic(two_arms, **KINDS["bandit"])
    compute_part(1)  # a message that came late: its row is gone
    row = RebuildPart.objects.create(
        token="5f9a1f2e-7a53-4a07-9f0a-0d5a4c9be111",
        place=0,
        experiment=experiment,
        snapshot="00000001-00000001-1",
        part=b'{"type":"units","rest":0,"by":1}',
        made_at=experiment.created_at - timedelta(days=2),
    )
    compute_part(row.pk)  # its snapshot is gone
    row.refresh_from_db()
    assert row.piece is None
    assert "snapshot" in row.problem
    Reward.objects.update(late=True)
    with pytest.raises(SystemExit):
        call_command("rebuild", "--check", "--workers", "1")
    assert not RebuildPart.objects.filter(pk=row.pk).exists()
