"""Which decisions are independent trials, and so evidence: units that return, holdouts, canaries,
stragglers, silence."""

import random
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning import mature
from noregret.learning.evidence import RULES, answers_of, evidence_of
from noregret.learning.models import ExperimentEvidence
from noregret.learning.rebuild import rebuild
from noregret.steering import pending
from noregret.steering.publishing import DECISIONS_AN_ARM, longest_in_force
from noregret.steering.round import learn

from serving.models import Decision, FirstVisit, Reward
from serving.routing import router
from tests.learning.past_traffic import WINDOW, begin_earlier, decide, reward
from tests.learning.test_rollouts import document
from tests.learning.told import results

Start = Callable[..., Experiment]


def again(experiment: Experiment) -> Experiment:
    return Experiment.objects.select_related("endpoint").get(pk=experiment.pk)


def trials(experiment: Experiment) -> int:
    return Decision.objects.filter(experiment_id=experiment.pk, trial=True).count()


def test_holdout__units_that_return__neither_promote_equal_arms_nor_raise_an_alarm(two_arms: Start) -> None:
    """Forty units, each with a mean of its own, thirty requests each: a held-out one always gets
    a."""
    experiment = two_arms(holdout=0.2, policy={"name": "uniform"}, **WINDOW)
    begin_earlier(experiment)
    routing = router(document(experiment))
    rng, held_out = random.Random(3), 0
    random.seed(5)  # the draws of the router
    for i in range(1200):
        unit = f"unit-{i % 40}"
        route = routing.route(unit)
        arm = "ab"[route.position]
        held_out += route.holdout
        identity = decide(
            experiment,
            arm,
            at=timezone.now() - timedelta(seconds=120 - 0.05 * i),
            unit=unit,
            shares=list(route.propensities),
            share=route.propensities[route.position],
            holdout=route.holdout,
        )
        reward(experiment, arm, identity, float(rng.random() < (0.95 if i % 40 < 20 else 0.05)))
    assert held_out > 100
    learn(experiment.endpoint_id)
    assert trials(experiment) == 1200 - held_out
    held = ExperimentEvidence.objects.get()
    assert held.matured == 1200 - held_out
    shown = results(again(experiment))
    assert shown["comparison"]["sample_ratio_p"] > 0.05
    assert shown["status"] == "running"
    assert shown["decisions"] == 1200  # they are served and rewarded all the same
    assert rebuild(again(experiment), write=False) == []


def test_canary__unit_that_was_taken_over__counts_once_at_its_first_step(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="canary",
        arms=[{"name": "new", "model": "page@b"}],
        promotion={"auto": False},
        canary={"auto": False},
        **WINDOW,
    )
    begin_earlier(experiment)
    for step, arm in enumerate(("control", "control", "new", "new")):
        for unit in ("one", "two"):
            at = timezone.now() - timedelta(seconds=60 - 10 * step)
            reward(experiment, arm, decide(experiment, arm, at=at, unit=unit), 1.0)
    learn(experiment.endpoint_id)
    evidence = evidence_of(experiment, ExperimentEvidence.objects.get())
    assert evidence is not None
    assert evidence.matured.count.tolist() == [2.0, 0.0]
    assert trials(experiment) == FirstVisit.objects.count() == 2
    assert rebuild(experiment, write=False) == []


def test_sticky__first_decision_failed__unit_counts_for_nobody(two_arms: Start) -> None:
    experiment = two_arms(sticky=True, **WINDOW)
    begin_earlier(experiment)
    decide(experiment, "b", seconds_ago=80, unit="u", failed=True)
    reward(experiment, "b", decide(experiment, "b", seconds_ago=70, unit="u"), 1.0)
    reward(experiment, "a", decide(experiment, "a", seconds_ago=70, unit="v"), 1.0)
    learn(experiment.endpoint_id)
    assert ExperimentEvidence.objects.get().matured == 1
    assert rebuild(experiment, write=False) == []


def test_unit__that_comes_back_in_a_later_batch__is_known(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab")
    begin_earlier(experiment)
    for _ in range(3):
        decide(experiment, "a", unit="u")
        decide(experiment, "b")
        learn(experiment.endpoint_id)
    assert trials(experiment) == 4  # u once, and each request without a unit


def test_straggler__enters_neither_evidence_nor_split(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW)
    begin_earlier(experiment)
    for name in "ab":
        reward(experiment, name, decide(experiment, name, seconds_ago=50), 1.0)
    learn(experiment.endpoint_id)
    before = ExperimentEvidence.objects.get()
    decide(experiment, "a", seconds_ago=100)
    learn(experiment.endpoint_id)
    after = ExperimentEvidence.objects.get()
    assert (before.split, before.answers) == (after.split, after.answers)
    assert trials(experiment) == 2
    assert rebuild(experiment, write=False) == []


def answer_at_different_rates(experiment: Experiment, mean: float, seed: int) -> None:
    """Equal arms whose mean drifts alike, of which a answers in 90 % and b in 30 % of decisions."""
    rng = random.Random(seed)
    for i in range(3000):
        arm = rng.choice("ab")
        identity = decide(experiment, arm, at=timezone.now() - timedelta(seconds=200 - i / 20))
        if rng.random() < {"a": 0.9, "b": 0.3}[arm]:
            reward(experiment, arm, identity, float(rng.random() < mean * (0.3 + 1.4 * i / 3000)))


@pytest.mark.parametrize("seed", [1, 2])
def test_unequal_answers__equal_arms__are_not_promoted_and_the_rates_are_told(two_arms: Start, seed: int) -> None:
    experiment = two_arms(policy={"name": "uniform"}, **WINDOW)
    begin_earlier(experiment)
    answer_at_different_rates(experiment, 0.45, seed)
    learn(experiment.endpoint_id)
    shown = results(again(experiment))
    assert shown["status"] == "running"
    assert shown["evidence"]["value"] < shown["evidence"]["needed"]
    assert [arm["answered"] for arm in shown["arms"]] == pytest.approx([0.9, 0.3], abs=0.04)
    assert shown["comparison"]["answers_p"] < 1e-6
    assert shown["comparison"]["sample_ratio_p"] > 0.05
    assert rebuild(again(experiment), write=False) == []


def test_equal_answers__are_not_told_to_differ(two_arms: Start) -> None:
    experiment = two_arms(policy={"name": "uniform"}, **WINDOW)
    begin_earlier(experiment)
    rng = random.Random(9)
    for i in range(600):
        arm = rng.choice("ab")
        identity = decide(experiment, arm, at=timezone.now() - timedelta(seconds=120 - i / 10))
        if rng.random() < 0.5:
            reward(experiment, arm, identity, 1.0)
    learn(experiment.endpoint_id)
    assert results(again(experiment))["comparison"]["answers_p"] > 0.05


def test_silent_arm__is_beaten_by_nobody(two_arms: Start) -> None:
    """b is decided for as often as a, and nobody ever says anything of it: that is no evidence for
    a."""
    experiment = two_arms(policy={"name": "uniform"}, **WINDOW)
    begin_earlier(experiment)
    for i in range(400):
        identity = decide(experiment, "ab"[i % 2], at=timezone.now() - timedelta(seconds=100 - i / 10))
        if i % 2 == 0:
            reward(experiment, "a", identity, 1.0)
    learn(experiment.endpoint_id)
    shown = results(again(experiment))
    assert shown["status"] == "running"
    assert shown["evidence"]["value"] == pytest.approx(1.0)
    assert [arm["answered"] for arm in shown["arms"]] == [1.0, 0.0]


def test_default__rates_of_answers__are_not_compared(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1, "default": 0})
    begin_earlier(experiment)
    reward(experiment, "a", decide(experiment, "a"), 1.0)
    decide(experiment, "b")
    learn(experiment.endpoint_id)
    held = ExperimentEvidence.objects.get()
    assert answers_of(experiment, held) is None
    assert results(experiment)["comparison"]["answers_p"] is None
    assert held.matured == 2


def version() -> int:
    return Endpoint.objects.get().policy_version


def answered(experiment: Experiment, count: int) -> None:
    for i in range(count):
        arm = "ab"[i % 2]
        reward(experiment, arm, decide(experiment, arm, seconds_ago=40), 1.0)


def test_publication__version_with_few_decisions__stays_in_force(two_arms: Start) -> None:
    experiment = two_arms(**WINDOW | {"reward": {"kind": "binary", "window_seconds": 3600}})
    begin_earlier(experiment, 20_000)
    answered(experiment, 4)
    learn(experiment.endpoint_id)
    first = version()  # nothing was published before: at once
    answered(experiment, 2 * DECISIONS_AN_ARM - 2)
    learn(experiment.endpoint_id)
    assert version() == first
    assert ExperimentEvidence.objects.get().unpublished
    answered(experiment, 2)
    learn(experiment.endpoint_id)
    assert version() == first + 1
    assert not ExperimentEvidence.objects.get().unpublished


def test_publication__slow_traffic__comes_when_the_time_is_over(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 3600})
    begin_earlier(experiment, 20_000)
    answered(experiment, 2)
    learn(experiment.endpoint_id)
    answered(experiment, 2)
    learn(experiment.endpoint_id)
    first = version()
    assert pending.find().learn == []
    longest = longest_in_force(again(experiment), timezone.now())
    assert longest == timedelta(seconds=900)
    ExperimentEvidence.objects.update(published_at=timezone.now() - longest)
    assert pending.find().learn == [experiment.endpoint_id]
    learn(experiment.endpoint_id)
    assert version() == first + 1


def test_publication__version_that_decided_nothing_yet__is_replaced_at_once(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 3600})
    begin_earlier(experiment, 20_000)
    identities = [decide(experiment, "ab"[i % 2], seconds_ago=40) for i in range(6)]
    reward(experiment, "a", identities[0], 1.0)
    learn(experiment.endpoint_id)
    first = version()
    for i, identity in enumerate(identities[1:], start=1):
        reward(experiment, "ab"[i % 2], identity, 1.0)
    learn(experiment.endpoint_id)
    assert version() == first + 1


def test_upgrade__sums_of_older_rules__are_made_anew(two_arms: Start) -> None:
    """As a version before left it: every decision a trial, no first visits, evidence of another
    rule, no split."""
    experiment = two_arms(strategy="ab", **WINDOW)
    begin_earlier(experiment)
    for unit in ("u", "u", "v", None):
        for name in "ab":
            reward(experiment, name, decide(experiment, name, unit=unit and f"{unit}-{name}"), 1.0)
    learn(experiment.endpoint_id)
    right = ExperimentEvidence.objects.values("state", "answers", "split", "matured", "rules").get()
    assert right["rules"] == RULES
    FirstVisit.objects.all().delete()
    Decision.objects.update(trial=True)
    Reward.objects.update(matured=True)
    ExperimentEvidence.objects.update(rules=0, state={}, answers={}, split={}, matured=8)
    late = decide(experiment, "a", unit="u-a", seconds_ago=1)
    learn(experiment.endpoint_id)
    assert not Decision.objects.get(id=UUID(bytes=late)).trial
    assert ExperimentEvidence.objects.values("state", "answers", "split", "matured", "rules").get() == right
    assert rebuild(again(experiment), write=False) == []


def test_mature__trials_alone__make_a_bucket(two_arms: Start) -> None:
    experiment = two_arms(strategy="ab", **WINDOW)
    begin_earlier(experiment)
    identity = decide(experiment, "a", unit="u", seconds_ago=30)
    reward(experiment, "a", identity, 1.0)
    reward(experiment, "a", decide(experiment, "a", unit="u", seconds_ago=20), 0.0)
    learn(experiment.endpoint_id)
    assert [r.decision_id for r in Reward.objects.filter(matured=True)] == [UUID(bytes=identity)]
    assert mature.mature(again(experiment), timezone.now()) == 0
