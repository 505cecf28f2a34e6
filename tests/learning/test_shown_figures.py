"""The figures of results: means and intervals of the same outcomes, units counted once, nothing
told that can't be known."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from noregret.dashboard.figures import figures
from noregret.experiments.models import Experiment
from noregret.learning import summing
from noregret.learning.models import ArmStatistics
from noregret.learning.shown import outcomes, savings
from noregret.learning.shown.numbers import amount
from noregret.steering.round import learn
from past_traffic import begin_earlier, decide, fill, reward

from bandits.inference.even_split import EvenSplit, saved
from bandits.inference.intervals import interval
from bandits.inference.units import UnitSums, of_units
from bandits.reward import RewardModel
from tests.conftest import Api
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
BY_HAND: dict[str, Any] = {"promotion": {"auto": False}}
SOON: dict[str, Any] = BY_HAND | {"reward": {"kind": "binary", "window_seconds": 1}}


def shown(experiment: Experiment) -> dict[str, Any]:
    return results(Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk))


def test_interval__rewards_of_open_windows_too__is_of_the_same_outcomes_as_the_mean(two_arms: Start) -> None:
    """A hundred good ones have matured, four hundred bad ones are open: of all that it learned the
    arm's mean is .2."""
    experiment = two_arms(**BY_HAND, reward={"kind": "binary", "window_seconds": 60})
    begin_earlier(experiment)
    for i in range(500):
        good = i < 100
        reward(experiment, "a", decide(experiment, "a", seconds_ago=600 if good else 5), float(good))
    learn(experiment.endpoint_id)
    a, b = shown(experiment)["arms"]
    assert a["mean"] == pytest.approx(0.2)
    assert a["interval"] == pytest.approx([0.16673, 0.23673], abs=1e-5)  # Beta(100.5, 400.5)
    assert a["watched_interval"][0] < a["interval"][0] < 0.2 < a["interval"][1] < a["watched_interval"][1]
    assert (a["interval_method"], a["mean_basis"]) == ("jeffreys", "served")
    assert (b["mean"], b["interval"], b["watched_interval"], b["interval_method"]) == (None, None, None, None)


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_mean__default_and_open_windows__is_of_closed_ones_alone(two_arms: Start, kind: str) -> None:
    """Of thirty closed decisions five were rewarded; of fifty open ones all that answered did so
    with 1."""
    bounds = {} if kind == "binary" else {"minimum": 0.0, "maximum": 1.0}
    experiment = two_arms(**BY_HAND, reward={"kind": kind, "window_seconds": 600, "default": 0, **bounds})
    begin_earlier(experiment)
    nothing_closed = shown(experiment)
    assert [arm["mean"] for arm in nothing_closed["arms"]] == [None, None]
    # What is open would make a look certain to be the best: it is not learned yet.
    reward(experiment, "a", decide(experiment, "a", seconds_ago=5), 1.0)
    learn(experiment.endpoint_id)
    early = shown(experiment)["arms"][0]
    assert (early["rewards"], early["mean"], early["interval"], early["probability_best"]) == (0, None, None, None)
    for i in range(79):
        closed = i < 30
        identity = decide(experiment, "a", seconds_ago=3000 if closed else 5)
        if i < 5 or not closed:
            reward(experiment, "a", identity, 1.0)
    learn(experiment.endpoint_id)
    a = shown(experiment)["arms"][0]
    assert (a["rewards"], a["mean"]) == (30, pytest.approx(5 / 30))
    expected = interval(outcomes.Statistics(*(np.array([x]) for x in (30.0, 1 / 6, 30 / 6 * 5 / 6))), RewardModel())
    assert a["interval"] == pytest.approx([float(end[0]) for end in expected], rel=1e-6)


def visits(experiment: Experiment, seed: int, arms: str = "ab", **said: Any) -> dict[str, dict[str, list[float]]]:
    """Twelve units an arm with means of their own come one to nine times: {arm: {unit:
    rewards}}."""
    rng = random.Random(seed)
    came: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    for arm in arms:
        for unit in range(12):
            mean = rng.random()
            values = [float(rng.random() < mean) for _ in range(rng.randint(1, 9))]
            came[arm][f"{arm}{unit}"] = values
            for value in values:
                reward(experiment, arm, decide(experiment, arm, seconds_ago=60, unit=f"{arm}{unit}", **said), value)
    return came


def sums_of(units: dict[str, list[float]]) -> tuple[UnitSums, float]:
    count, total = (np.array([float(f(values)) for values in units.values()]) for f in (len, sum))
    sums = UnitSums.of(count, total)
    return UnitSums(*(np.array([part]) for part in (sums.count, sums.squared_count, sums.squared_residual))), float(
        total.sum() / count.sum()
    )


@pytest.mark.parametrize("changes", [{"strategy": "ab"}, {"sticky": True}])
def test_interval__units_that_keep_their_arm__is_by_unit(two_arms: Start, changes: dict[str, Any]) -> None:
    experiment = two_arms(**SOON, **changes)
    begin_earlier(experiment)
    came = visits(experiment, 71)
    learn(experiment.endpoint_id)
    found = shown(experiment)
    for arm in found["arms"]:
        sums, mean = sums_of(came[arm["name"]])
        expected = interval(of_units(sums, np.array([mean])), RewardModel())
        assert arm["mean"] == pytest.approx(mean)
        assert arm["interval"] == pytest.approx([float(end[0]) for end in expected], rel=1e-6)
        assert arm["interval_method"] == "by_unit"
        by_decision = interval(
            outcomes.Statistics(sums.count, np.array([mean]), sums.count * mean * (1 - mean)), RewardModel()
        )
        assert arm["interval"][1] - arm["interval"][0] > 1.15 * float((by_decision[1] - by_decision[0])[0])
    if "sticky" in changes:  # of a fixed split there is nothing to save by
        assert found["comparison"]["saved_interval"][0] < found["comparison"]["saved_against_even_split"]


def test_holdout__units_that_return__is_compared_by_unit(two_arms: Start) -> None:
    experiment = two_arms(**SOON, holdout=0.5)
    begin_earlier(experiment)
    served = visits(experiment, 72, "b")["b"]
    held_out = visits(experiment, 73, "a", holdout=True)["a"]
    learn(experiment.endpoint_id)
    found = shown(experiment)["holdout"]
    means = []
    for name, units in (("bandit", served), ("holdout", held_out)):
        sums, mean = sums_of(units)
        means.append(mean)
        expected = interval(of_units(sums, np.array([mean])), RewardModel())
        rewards = sum(len(values) for values in units.values())
        assert found[name] == {
            "decisions": rewards,
            "rewards": rewards,
            "units": 12,
            "mean": pytest.approx(mean),
            "interval": pytest.approx([float(end[0]) for end in expected], rel=1e-6),
        }
    assert found["benefit"] == pytest.approx(means[0] - means[1])
    # As far down as the bandit's mean may be less and the holdout's more, in root of squares.
    below = np.hypot(means[0] - found["bandit"]["interval"][0], found["holdout"]["interval"][1] - means[1])
    assert found["interval"][0] == pytest.approx(found["benefit"] - below)


def test_holdout__one_unit_or_none__tells_no_benefit(two_arms: Start) -> None:
    experiment = two_arms(**SOON, holdout=0.5)
    begin_earlier(experiment)
    nothing = shown(experiment)["holdout"]
    side = {"decisions": 0, "rewards": 0, "units": 0, "mean": None, "interval": None}
    assert nothing == {"share": 0.5, "bandit": side, "holdout": side, "benefit": None, "interval": None}
    for i in range(40):
        reward(experiment, "a", decide(experiment, "a", unit="one", holdout=True), float(i % 2))
        reward(experiment, "b", decide(experiment, "b", unit=f"u{i}"), float(i % 2))
    learn(experiment.endpoint_id)
    found = shown(experiment)["holdout"]
    assert (found["holdout"]["mean"], found["holdout"]["interval"], found["benefit"]) == (0.5, None, None)
    assert found["bandit"]["interval"] is not None


def log_of(experiment: Experiment, seed: int, offset: float, n: int = 240) -> EvenSplit:
    """Decisions with three different allocations: what the ledger's sums must be."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, float, list[float]]] = []
    for i in range(n):
        share = [[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]][i % 3]
        arm = int(rng.random() >= share[0])
        value = float(rng.random() < 0.4) + offset
        name = "ab"[arm]
        reward(experiment, name, decide(experiment, name, share=share[arm], shares=share), value)
        rows.append((arm, value, share))
    return EvenSplit.of(*(np.array(column) for column in zip(*rows, strict=True)))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_saved__uneven_allocations__is_by_weights(two_arms: Start, offset: float) -> None:
    kind = {"kind": "binary"} if not offset else {"kind": "continuous", "minimum": 1e6, "maximum": 1e6 + 1}
    experiment = two_arms(**BY_HAND, reward={"window_seconds": 1, **kind})
    begin_earlier(experiment)
    sums = log_of(experiment, 74, offset)
    # Held out, not served by its arm, or on another metric: not in it.
    reward(experiment, "a", decide(experiment, "a", holdout=True), offset)
    learn(experiment.endpoint_id)
    low, high = (offset, offset + 1) if offset else (None, None)
    expected = saved(sums, RewardModel(kind["kind"], "maximize", low, high))
    assert expected is not None
    found = shown(experiment)["comparison"]
    assert found["saved_against_even_split"] == pytest.approx(expected.value, abs=1e-4)
    assert found["saved_interval"] == pytest.approx([expected.low, expected.high], abs=1e-3)


def test_saved__what_cannot_be_known__is_none(two_arms: Start) -> None:
    experiment = two_arms(**SOON)
    begin_earlier(experiment)
    assert shown(experiment)["comparison"]["saved_interval"] is None
    fill(experiment, {"a": (30, 0)})
    learn(experiment.endpoint_id)
    assert shown(experiment)["comparison"]["saved_against_even_split"] is None  # of b nothing is known
    fill(experiment, {"b": (10, 10)})
    learn(experiment.endpoint_id)
    assert shown(experiment)["comparison"]["saved_against_even_split"] is not None
    for changes in (
        {"policy": {"name": "kl-ucb", "params": {}, "floor": 0.0, "burn_in": 0}},
        {"apprentice": True},
        {"strategy": "shadow", "policy": None},
        {"strategy": "canary", "policy": None, "canary_step": None},
    ):
        before = Experiment.objects.filter(pk=experiment.pk).values(*changes).get()
        Experiment.objects.filter(pk=experiment.pk).update(**changes)
        current = Experiment.objects.get(pk=experiment.pk)
        arms = list(current.arms.order_by("position"))
        assert savings.against_even_split(current, arms, summing.sums_of(current)) is None, changes
        Experiment.objects.filter(pk=experiment.pk).update(**before)


def test_contextual__arms_that_served_different_requests__are_not_compared(two_arms: Start) -> None:
    """Alike on average, each better for one half: raw means .9 and .3 by what was sent, and no arm
    is "best"."""
    experiment = two_arms(
        **SOON,
        policy={"name": "lin-thompson", "burn_in": 0},
        context={"fields": [{"name": "x", "type": "number", "min": 0, "max": 1}]},
    )
    begin_earlier(experiment)
    for i in range(200):
        arm = "a" if i % 2 else "b"
        share = [0.8, 0.2] if i % 2 else [0.7, 0.3]
        identity = decide(experiment, arm, share=share["ab".index(arm)], shares=share, context={"x": i % 2})
        reward(experiment, arm, identity, float(i % 20 < 18) if arm == "a" else float(i % 20 < 6))
    learn(experiment.endpoint_id)
    found = shown(experiment)
    for arm in found["arms"]:
        assert (arm["probability_best"], arm["expected_loss"], arm["mean_basis"]) == (None, None, "served")
        assert arm["interval"][0] < arm["mean"] < arm["interval"][1]
    low, high = found["comparison"]["saved_interval"]
    assert figures(experiment).facts["saved"] == amount(
        found["comparison"]["saved_against_even_split"], (low, high), "rewards"
    )


def test_results__changed_fields__are_answered(two_arms: Start, alice: Api) -> None:
    experiment = two_arms(**SOON)
    begin_earlier(experiment, 120)
    fill(experiment, {"a": (20, 40), "b": (40, 60)})
    learn(experiment.endpoint_id)
    answer = alice.get("/api/v1/experiments/e/results").body
    low, high = answer["comparison"]["saved_interval"]
    assert low < answer["comparison"]["saved_against_even_split"] < high
    assert {arm["interval_method"] for arm in answer["arms"]} == {"jeffreys"}
    assert ArmStatistics.objects.get(arm__name="a").mean == answer["arms"][0]["mean"]
