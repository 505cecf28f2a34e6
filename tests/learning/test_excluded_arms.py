"""Arms that some requests exclude, which are harder than the others: what compares arms reads the
requests that were for both."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning.rebuild import rebuild
from noregret.learning.watched.comparisons import compare
from noregret.learning.watched.watches import watches_of
from noregret.steering.round import learn

from bandits.inference.evidence import Bucket, empty
from bandits.inference.one_arm import against_one_arm
from bandits.ope import Log, evaluate
from bandits.ope.replay import target_probabilities
from bandits.policies import make
from bandits.reward import RewardModel
from tests.learning.past_traffic import begin_earlier, decide, reward
from tests.learning.told import evaluated, results

Start = Callable[..., Experiment]


def hard_for_the_first_alone(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    """Half of n requests exclude the second of two arms; of these 1 in 10 is a success, of the
    others 8: (arm, outcome, propensities, eligible)."""
    eligible = np.ones((n, 2), dtype=np.bool_)
    eligible[:, 1] = rng.random(n) < 0.5
    propensities = eligible / eligible.sum(axis=1, keepdims=True)
    arm = np.where(eligible[:, 1], rng.integers(2, size=n), 0)
    outcome = (rng.random(n) < np.where(eligible[:, 1], 0.8, 0.1)).astype(np.float64)
    return arm, outcome, propensities, eligible


@pytest.mark.parametrize("rule", ["weighted", "design", "conditional"])
def test_evidence__arms_alike_where_both_are_eligible__finds_neither_better(rule: str) -> None:
    rng = np.random.default_rng(1)
    found = empty(rule, 2)
    for number in range(20):
        arm, outcome, propensities, eligible = hard_for_the_first_alone(rng, 200)
        found = found.observe(Bucket(arm, outcome, propensities, np.full(200, number), eligible))
    assert found.e_values().max() < 20
    arm, outcome, propensities, eligible = hard_for_the_first_alone(rng, 200)
    with pytest.raises(ValueError, match="eligible is"):
        Bucket(arm, outcome, propensities, np.zeros(200, dtype=np.int64), eligible[:, :1]).check(2)


def test_weighted_evidence__better_where_both_are_eligible__is_found_in_spite_of_the_others() -> None:
    rng = np.random.default_rng(2)
    found = empty("weighted", 2)
    for number in range(20):
        arm, outcome, propensities, eligible = hard_for_the_first_alone(rng, 200)
        outcome = np.where(eligible[:, 1] & (arm == 1), rng.random(200) < 0.95, outcome).astype(np.float64)
        found = found.observe(Bucket(arm, outcome, propensities, np.full(200, number), eligible))
    assert found.e_values()[1, 0] > 100


@pytest.mark.parametrize("name", ["thompson", "ucb1", "lin-thompson", "uniform"])
def test_evaluation__target_chooses_among_the_eligible_too(name: str) -> None:
    arm, outcome, propensities, eligible = hard_for_the_first_alone(np.random.default_rng(3), 3000)
    log = Log(arm, outcome, propensities, 2, np.ones((3000, 1)), eligible=eligible)
    target = target_probabilities(make(name), log, RewardModel("binary"), floor=0.1)
    assert (target[~eligible] == 0.0).all()
    assert target.sum(axis=1) == pytest.approx(1.0)
    found = evaluate(make(name), log, RewardModel("binary"), floor=0.1)
    # Whoever serves: .8 where both may, .1 where one may.
    assert all(estimate.value == pytest.approx(0.45, abs=0.05) for estimate in found.estimates.values())


def test_one_arm__is_told_of_the_requests_that_it_was_for() -> None:
    arm, outcome, propensities, eligible = hard_for_the_first_alone(np.random.default_rng(4), 4000)
    first, second = against_one_arm(outcome, arm, propensities, eligible=eligible)
    assert first.value == pytest.approx(0.45, abs=0.05)
    assert second.value == pytest.approx(0.8, abs=0.05)
    assert second.gain == pytest.approx(0.0, abs=0.05)


def past(experiment: Experiment, n: int, begun: datetime, *, hard: float = 0.5, held_out: float = 0.0) -> None:
    """Traffic that `hard_for_the_first_alone` describes, whose failures are its outcomes of 0."""
    rng = random.Random(6)
    arms = list(experiment.arms.order_by("position"))
    for i in range(n):
        excludes = rng.random() < hard
        holdout = rng.random() < held_out and not excludes
        arm = arms[0] if excludes or holdout else rng.choice(arms)
        shares = [1.0, 0.0] if excludes or holdout else [0.5, 0.5]
        good = rng.random() < (0.1 if excludes else 0.8)
        identity = decide(
            experiment,
            arm.name,
            at=begun + timedelta(milliseconds=10 * i),
            share=shares[0],
            shares=shares,
            holdout=holdout,
            excluded=[arms[1].pk] if excludes else None,
            failed=not held_out and not good,
        )
        if held_out:
            reward(experiment, arm.name, identity, float(good))
    learn(experiment.endpoint_id)


def test_guardrail__failures_beside_the_controls__of_requests_for_both(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="canary",
        arms=[{"name": "new", "model": "page@b"}],
        canary={"steps": [0.5, 1.0], "bake_seconds": 3600},
        reward={"kind": "binary", "window_seconds": 600},
        guardrails=[{"metric": "error_rate", "max": 0.1, "versus": "control", "action": "rollback"}],
    )
    begin_earlier(experiment)
    begun = timezone.now() - timedelta(seconds=120)
    past(experiment, 600, begun)
    watch = next(watch for watch in watches_of(experiment).values() if watch.kind == "failures")
    start, end = begun - timedelta(hours=1), timezone.now()
    challenger = str(experiment.arms.get(name="new").pk)
    sealed = compare(experiment, watch, {}, start, end)[challenger]
    looked = compare(experiment, watch, {}, start, None, last=True)[challenger]
    seen = sealed["control"] + sealed["waiting"][3]
    # A quarter of all: those for both that the control served; a fifth of them failed.
    assert 120 < seen < 180
    assert (sealed["control_failed"] + sealed["waiting"][2]) / seen == pytest.approx(0.2, abs=0.1)
    assert looked["control"] == seen
    assert rebuild(experiment, write=False) == []


def test_holdout__requests_that_exclude_the_control__are_on_neither_side(two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 1}, holdout=0.3, policy={"name": "thompson"})
    begin_earlier(experiment)
    control, other = experiment.arms.order_by("position")
    rng = random.Random(7)
    for i in range(300):
        excludes, holdout = i % 3 == 0, i % 3 == 1
        arm = other if excludes else control if holdout else rng.choice([control, other])
        identity = decide(
            experiment,
            arm.name,
            shares=[0.0, 1.0] if excludes else [1.0, 0.0] if holdout else [0.5, 0.5],
            share=1.0 if excludes or holdout else 0.5,
            holdout=holdout,
            excluded=[control.pk] if excludes else None,
            unit=f"u{i}",
        )
        reward(experiment, arm.name, identity, float(not excludes))
    learn(experiment.endpoint_id)
    experiment.refresh_from_db()
    shown = results(experiment)["holdout"]
    assert (shown["bandit"]["rewards"], shown["holdout"]["rewards"]) == (100, 100)
    assert shown["benefit"] == 0.0
    assert rebuild(experiment, write=False) == []
    log = evaluated(experiment, "uniform", {})
    assert log["decisions"] == 200
    assert log["estimates"]["snips"]["value"] == pytest.approx(0.5, abs=0.05)
