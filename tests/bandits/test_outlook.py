"""The outlook of an experiment under way: it agrees with the plan of one that begins, and its range
holds what comes true."""

from typing import cast

import numpy as np
import pytest

from bandits.inference.log_factors import averaged
from bandits.policies import Policy, make
from bandits.reward import RewardModel
from bandits.simulation import outlook, plan
from bandits.simulation.design_factors import counted_log_factors
from bandits.statistics import ArmStatistics, Array

NOTHING = {"ones": np.zeros(2), "count": np.zeros(2), "evidence": np.ones((2, 2))}


@pytest.mark.parametrize("name", ["uniform", "top-two-thompson"])
def test_outlook__from_nothing_with_one_pair_of_means__is_the_plan(name: str) -> None:
    planned = plan(name, [0.3, 0.4], 8000, runs=100, seed=5, floor=0.05)
    more, cost = outlook(
        make(name), np.tile([0.3, 0.4], (100, 1)), **NOTHING, horizon=8000, needed=40, seed=6, floor=0.05, stretches=200
    )
    median = float(np.median(more))
    low, high = planned.median_interval
    assert low * 0.85 <= median <= (high or np.inf) * 1.15
    assert np.isfinite(more).mean() == pytest.approx(planned.promoted, abs=4 * (0.25 / 100 + 0.25 / 100) ** 0.5)
    assert cost.mean() == pytest.approx(planned.cost, rel=0.25)


def test_outlook__evidence_that_is_nearly_enough__ends_sooner_than_from_nothing() -> None:
    means = np.tile([0.3, 0.4], (200, 1))
    state = {"ones": np.array([150.0, 200.0]), "count": np.array([500.0, 500.0])}
    begun = outlook(
        make("uniform"), means, **state, evidence=np.array([[1.0, 0.1], [30.0, 1.0]]), horizon=8000, needed=40, seed=1
    ).more
    fresh = outlook(make("uniform"), means, **state, evidence=np.ones((2, 2)), horizon=8000, needed=40, seed=1).more
    assert np.median(begun) < 0.5 * np.median(fresh)


def test_outlook__equal_arms__hardly_any_ends() -> None:
    more = outlook(make("uniform"), np.full((400, 2), 0.05), **NOTHING, horizon=50_000, needed=40, seed=2).more
    assert np.isfinite(more).mean() <= 0.05


def test_outlook__range_of_8_in_10__holds_what_comes_true() -> None:
    """60 experiments under a fixed split, asked at 2,000 rewards: they end in the range that is
    told, about as often as is told."""
    rng = np.random.default_rng(11)
    inside = asked = 0
    for _ in range(60):
        truth = rng.beta([20, 26], [180, 174])  # as an experiment meets arms: not every pair is alike
        ones, count, sums, end, told = np.zeros(2), np.zeros(2), np.zeros((1, 2, 2, 5)), np.inf, None
        for n in range(100, 22_001, 100):
            pulls = rng.multinomial(100, [0.5, 0.5])
            new = rng.binomial(pulls, truth)
            pooled = np.array([(ones.sum() + 0.5) / (count.sum() + 1.0)])
            sums += counted_log_factors(new[None] * 1.0, (pulls - new)[None] * 1.0, np.full((1, 2), 0.5), pooled)
            ones, count = ones + new, count + pulls
            values = averaged(sums)[0]
            if max(values[0, 1], values[1, 0]) >= 40:
                end = float(n)
                break
            if n == 2000:
                means = rng.beta(1 + ones, 1 + count - ones, (200, 2))
                more = outlook(
                    None, means, ones, count, values, horizon=20_000, needed=40, seed=n, shares=np.array([0.5, 0.5])
                ).more
                told = np.quantile(more, [0.1, 0.9], method="inverted_cdf")
        if told is not None:
            asked += 1
            inside += told[0] <= end - 2000 <= told[1]
    assert asked >= 30
    # 8 of 10, or more where a range has no end; four standard errors below.
    assert inside / asked >= 0.8 - 4 * (0.8 * 0.2 / asked) ** 0.5


class Asked:
    """A policy that counts for how many runs it was asked each time."""

    counts_own_pulls = False

    def __init__(self) -> None:
        self._policy = make("thompson")
        self.runs: list[int] = []

    def propensities(self, statistics: ArmStatistics, reward: RewardModel) -> Array:
        self.runs.append(len(statistics.count))
        found: Array = self._policy.propensities(statistics, reward)
        return found


@pytest.mark.parametrize("horizon", [20_000, 1_000_000])
def test_outlook__however_far_ahead__asks_the_policy_once_a_stretch(horizon: int) -> None:
    policy = Asked()
    outlook(
        cast("Policy", policy),
        np.full((80, 3), [0.1, 0.11, 0.12]),
        np.full(3, 100.0),
        np.full(3, 1000.0),
        np.ones((3, 3)),
        horizon=horizon,
        needed=60,
        seed=1,
        stretches=30,
    )
    assert 1 <= len(policy.runs) <= 30
    assert policy.runs[0] == 80
    assert max(policy.runs) == 80, "of runs that have ended nothing is asked"


def test_outlook__policy_that_counts_its_pulls__is_refused() -> None:
    with pytest.raises(ValueError, match="counts its own pulls"):
        outlook(make("kl-ucb"), np.full((2, 2), 0.5), **NOTHING, horizon=100, needed=40, seed=1)
    with pytest.raises(ValueError, match="shares"):
        outlook(None, np.full((2, 2), 0.5), **NOTHING, horizon=100, needed=40, seed=1)
