"""Sums of what guardrails watch: kept once, gone on with, made anew where a guardrail changed, and
what a rebuild says of them."""

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning import clock
from noregret.learning.clock import FOREVER
from noregret.learning.kept_watches import WatchedSums
from noregret.learning.models import ExperimentEvidence, LedgerBase, WatchedMetric, WatchedValues
from noregret.learning.parts import Alone
from noregret.learning.rebuild import rebuild
from noregret.learning.watched import rows as watched_rows
from noregret.learning.watched import watching
from noregret.learning.watched.guardrails import Judgement, judge
from noregret.learning.watched.watches import guardrails_of
from noregret.learning.watched.watching import keep_up
from noregret.rollout.transitions import move
from noregret.steering import pending
from noregret.steering.round import learn

from serving.models import Decision, Reward
from tests.learning.past_traffic import decide
from tests.learning.test_guardrails import send

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
COST = {"metric": "cost", "action": "pause", "max": 1.0}
BESIDE = COST | {"versus": "control", "max": 0.2}
WINDOW = {"kind": "binary", "window_seconds": 1}


def looked(experiment: Experiment, place: int = 0) -> Judgement:
    """How b stands to a guardrail, as the sums are."""
    arms = list(experiment.arms.select_related("model", "experiment").order_by("position"))
    return next(each for each in judge(experiment, arms, guardrails_of(experiment)[place]) if each.arm.name == "b")


def drawn(count: int, seed: int = 1) -> list[tuple[str, float]]:
    rng = random.Random(seed)
    return [("ab"[i % 2], rng.lognormvariate(0.0, 0.5) + 0.5 * (i % 2)) for i in range(count)]


def close(experiment: Experiment) -> None:
    """As if everything were long ago: each bucket is closed, and each second sealed."""
    ExperimentEvidence.objects.filter(experiment=experiment).update(
        closed_until=timezone.now().replace(microsecond=0) - timedelta(seconds=5)
    )


def forget_ledger(experiment: Experiment) -> None:
    Reward.objects.filter(experiment_id=experiment.pk).delete()
    Decision.objects.filter(experiment_id=experiment.pk).delete()


@pytest.mark.parametrize("guardrail", [COST, BESIDE], ids=["limit", "control"])
def test_watch__what_is_closed__is_not_read_again(two_arms: Start, guardrail: dict[str, Any]) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[guardrail])
    send(experiment, "cost", drawn(400))
    close(experiment)
    keep_up(experiment, clock.now())
    before = looked(experiment)
    assert before.evidence is not None
    forget_ledger(experiment)
    after = looked(experiment)
    assert (after.state, after.count, after.evidence) == (before.state, before.count, before.evidence)


@pytest.mark.parametrize("guardrail", [COST, BESIDE], ids=["limit", "control"])
def test_watch__guardrail_that_comes_later_or_changes__goes_through_what_was_there_once(
    two_arms: Start, guardrail: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[guardrail])
    send(experiment, "cost", drawn(400))
    close(experiment)
    keep_up(experiment, clock.now())
    first = looked(experiment)
    # Another limit, one piece a round: nothing is said of the arm before all is through.
    Experiment.objects.filter(pk=experiment.pk).update(guardrails=[guardrail | {"max": 0.9, "metric": "cost"}])
    experiment.refresh_from_db()
    monkeypatch.setattr(watched_rows, "PIECE", 150)
    monkeypatch.setattr(watching, "ROUND_SECONDS", 0.0)
    said = looked(experiment)
    for _ in range(2):
        keep_up(experiment, clock.now())
        said = looked(experiment)
        assert (said.state, said.reason) == ("waiting", "what was there of cost before it was watched is being summed")
    for _ in range(4):
        keep_up(experiment, clock.now())
    changed = looked(experiment)
    assert changed.count == first.count
    assert changed.mean == pytest.approx(first.mean, rel=1e-12)
    assert changed.evidence is not None
    assert first.evidence is not None
    assert changed.evidence > first.evidence if guardrail is COST else changed.evidence < first.evidence
    # And back: the same figures as at first, by sums made anew.
    Experiment.objects.filter(pk=experiment.pk).update(guardrails=[guardrail])
    experiment.refresh_from_db()
    monkeypatch.undo()
    keep_up(experiment, clock.now())
    assert looked(experiment).evidence == pytest.approx(first.evidence, rel=1e-9)


def test_watch__values_that_earlier_versions_left_marked__are_in_the_sums(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[COST])
    send(experiment, "cost", drawn(100))
    Reward.objects.filter(experiment_id=experiment.pk).update(summed=True)  # as the migration marks them
    keep_up(experiment, clock.now())
    send(experiment, "cost", drawn(50, seed=2))
    keep_up(experiment, clock.now())
    assert looked(experiment).count == 75
    assert not Reward.objects.filter(experiment_id=experiment.pk, summed=False).exists()


def test_watch__metric_that_nobody_watched_before__is_gone_through(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW)
    send(experiment, "cost", drawn(100))
    Reward.objects.filter(pk=Reward.objects.order_by("decided_at").first().pk).update(value=float("nan"))
    keep_up(experiment, clock.now())
    assert Reward.objects.filter(summed=True).count() == 0
    close(experiment)
    monkeypatch.setattr(watching, "SLACK", timedelta(0))  # as if all were of days ago
    Experiment.objects.filter(pk=experiment.pk).update(guardrails=[COST])
    experiment.refresh_from_db()
    keep_up(experiment, clock.now())
    assert sorted(WatchedValues.objects.values_list("count", flat=True)) == [49, 50]  # one is no number
    assert Reward.objects.filter(summed=False).count() == 0


def differences(watched: WatchedSums, experiment: Experiment) -> list[str]:
    pieces = Alone()(experiment, watched.parts(experiment, [], 1))
    return list(watched.differences(experiment, list(pieces)))


def test_watch__sums_of_days_that_were_dropped__are_gone_on_from(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[COST, BESIDE])
    send(experiment, "cost", drawn(1500))
    close(experiment)
    keep_up(experiment, clock.now())
    halfway = Reward.objects.order_by("decided_at")[700].decided_at
    watched = WatchedSums()
    with transaction.atomic():
        assert watched.set_aside(experiment, halfway - timedelta(days=1), halfway)
        Decision.objects.filter(decided_at__lt=halfway).delete()
        assert Reward.objects.filter(decided_at__lt=halfway).delete()[0] > 500
        LedgerBase.objects.create(experiment=experiment, until=halfway)
    assert differences(watched, experiment) == []
    before = {row.pk: row.compared for row in WatchedMetric.objects.all()}
    with transaction.atomic():
        watched.make(experiment)
    assert sorted(WatchedValues.objects.values_list("count", flat=True)) == [750, 750, 750, 750]
    for row in WatchedMetric.objects.all():
        assert row.compared.keys() == before[row.pk].keys()
        for arm, state in row.compared.items():
            assert state["above"] == pytest.approx(before[row.pk][arm]["above"], rel=1e-9)
    WatchedValues.objects.filter(watched__in=list(before)).first().delete()
    assert len(differences(watched, experiment)) == 1


def test_watch__experiment_that_ended_under_an_earlier_version__is_gone_through(
    two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[COST])
    send(experiment, "cost", drawn(100))
    Reward.objects.update(summed=True)
    move(experiment, "stop", actor="tests")
    Experiment.objects.filter(pk=experiment.pk).update(ended_at=timezone.now() - timedelta(days=3))
    ExperimentEvidence.objects.filter(experiment=experiment).update(closed_until=timezone.now(), gone_through=False)
    experiment.refresh_from_db()
    assert looked(experiment).state == "waiting"
    monkeypatch.setattr(watched_rows, "PIECE", 30)
    monkeypatch.setattr(watching, "ROUND_SECONDS", 0.0)
    rounds = 0
    while experiment.endpoint_id in pending.find().learn:
        learn(experiment.endpoint_id)
        rounds += 1
    assert 2 <= rounds <= 6
    assert (looked(experiment).count, looked(experiment).state) == (50, "beyond")


def test_watch__second_one_of_a_metric__takes_nothing_from_the_first(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[COST])
    send(experiment, "cost", drawn(100))
    keep_up(experiment, clock.now())
    Experiment.objects.filter(pk=experiment.pk).update(guardrails=[COST, COST | {"max": 2.0}])
    experiment.refresh_from_db()
    watches = watching.watches_of(experiment)
    watching._tend(experiment, watches)
    send(experiment, "cost", drawn(20, seed=3))  # after the claim, and before the second is through
    watching._catch_up(experiment, watches)
    keep_up(experiment, clock.now())
    assert sorted(WatchedValues.objects.values_list("count", flat=True)) == [60] * 4


def test_watch__two_at_once__add_each_value_once(two_arms: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[COST, BESIDE])
    send(experiment, "cost", drawn(600))
    close(experiment)
    monkeypatch.setattr(watching, "ROUND_SECONDS", 60.0)  # one may wait long for the others
    monkeypatch.setattr(watching, "BATCH", 7)
    monkeypatch.setattr(watched_rows, "PIECE", 50)
    at = clock.now()
    watching._tend(experiment, watching.watches_of(experiment))

    def one() -> None:
        try:
            keep_up(experiment, at)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keep_up(experiment, at)
    assert sorted(WatchedValues.objects.values_list("count", flat=True)) == [300] * 4
    assert [line for line in rebuild(experiment, write=False) if "cost" in line] == []


def test_watch__late_value__is_not_summed(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[COST])
    send(experiment, "cost", drawn(100))
    late = Reward.objects.filter(experiment_id=experiment.pk).order_by("decided_at")[:10]
    Reward.objects.filter(decision_id__in=[row.decision_id for row in late]).update(late=True, value=1e12)
    keep_up(experiment, clock.now())
    assert sum(WatchedValues.objects.values_list("count", flat=True)) == 90


@pytest.mark.parametrize("guardrails", [[COST, BESIDE], [BESIDE | {"min": -0.5, "minimum": 0.0}]])
def test_rebuild__sums_of_watches__are_checked_and_made_anew(two_arms: Start, guardrails: list[dict[str, Any]]) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=guardrails)
    send(experiment, "cost", drawn(300))
    close(experiment)
    keep_up(experiment, clock.now())
    before = looked(experiment, len(guardrails) - 1).evidence
    assert [line for line in rebuild(experiment, write=False) if "cost" in line] == []
    WatchedValues.objects.update(mean=3.0)
    WatchedMetric.objects.filter(key__contains="difference").update(compared={})
    found = [line for line in rebuild(experiment, write=True) if "cost" in line]
    assert len(found) == 2 * len(guardrails) + 1
    assert [line for line in rebuild(experiment, write=False) if "cost" in line] == []
    assert looked(experiment, len(guardrails) - 1).evidence == pytest.approx(before, rel=1e-9)


def test_failures__beside_the_control__are_sealed_after_a_minute_and_stragglers_are_left_out(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="canary",
        canary={"steps": [0.5], "bake_seconds": 1e6, "min_decisions": 10_000},
        reward=WINDOW,
    )
    for i in range(60):
        decide(experiment, "ab"[i % 2], seconds_ago=200 - i, failed=i % 10 == 1)
    learn(experiment.endpoint_id)
    watched = WatchedMetric.objects.get(experiment=experiment)
    sealed = ExperimentEvidence.objects.get(experiment=experiment).sealed_until
    assert watched.compared_until == sealed
    first = looked(experiment)
    assert first.count == 30
    decide(experiment, "b", seconds_ago=190, failed=True)  # a web process kept it meanwhile
    learn(experiment.endpoint_id)
    assert Decision.objects.filter(experiment_id=experiment.pk, timely=False).count() == 1
    after = looked(experiment)
    assert (after.count, after.evidence) == (31, first.evidence)
    assert rebuild(experiment, write=False) == []
    Decision.objects.filter(experiment_id=experiment.pk).update(fallback_reason=None)
    assert looked(experiment).evidence == first.evidence  # nothing of it is read again


def test_watch__nobody_guards_a_metric_any_more__its_sums_go(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", reward=WINDOW, guardrails=[COST])
    send(experiment, "cost", drawn(20))
    keep_up(experiment, clock.now())
    assert WatchedMetric.objects.get().summed_until == FOREVER
    Experiment.objects.filter(pk=experiment.pk).update(guardrails=[])
    experiment.refresh_from_db()
    keep_up(experiment, clock.now())
    assert (WatchedMetric.objects.count(), WatchedValues.objects.count()) == (0, 0)
