"""The long bars: what the docs claim, at the sizes that they claim it for. Behind `make soak`."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from bandits.policies import make
from bandits.policies.index import choose_leader
from bandits.policies.thompson import Thompson
from bandits.reward import RewardModel
from bandits.simulation import bernoulli, retiring, simulate, simulate_promotion
from bandits.simulation.promotion import Promotions
from bandits.statistics import ArmStatistics, Array
from benchmarks import guardrails
from benchmarks.false_promotion import ALPHA, ARMS, RATES, measure, runs_for

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("drift", [False, True])
@pytest.mark.parametrize("check_every", [10, 100])
@pytest.mark.parametrize("arms", ARMS)
@pytest.mark.parametrize("rate", RATES)
def test_false_promotion__equal_arms__is_within_alpha(rate: float, arms: int, check_every: int, drift: bool) -> None:
    seed = int(rate * 1000) + 100 * arms + check_every + drift
    assert measure(rate, arms, check_every, drift, runs_for(arms, 500), seed).upper_limit <= ALPHA


def test_false_promotion__two_thousand_runs_of_twenty_thousand_pulls() -> None:
    equal = bernoulli([0.05, 0.05])
    anytime = simulate_promotion("thompson", equal, 20_000, 2000, 1)
    share = float((anytime.promoted >= 0).mean())
    assert share + 1.96 * (share * (1 - share) / 2000) ** 0.5 <= 0.05
    watched = simulate_promotion("thompson", equal, 20_000, 500, 1, rule="probability-best")
    found = float((watched.promoted >= 0).mean())
    assert abs(found - 0.576) <= 4 * (0.576 * 0.424 * (1 / 500 + 1 / 2000)) ** 0.5


@pytest.mark.parametrize(
    "part", [guardrails.proportions, guardrails.means, guardrails.differences, guardrails.failures]
)
def test_guardrails__at_their_limit__are_acted_on_in_at_most_alpha_of_runs__and_small_limits_have_power(
    part: Callable[[int, int], Iterator[guardrails.Row]],
) -> None:
    for row in part(400, 31):
        if row.harmless and "correlated" not in row.subject:
            assert row.acted <= guardrails.ALPHA * row.runs, row
        if row.subject.startswith("limit 0.1 %"):
            assert row.acted >= 0.9 * row.runs, row


def _decided(found: Promotions) -> float:
    return float((found.promoted == 1).mean())


def test_promotion__five_against_six_percent__under_each_policy() -> None:
    pair = bernoulli([0.05, 0.06])
    uniform = simulate_promotion("uniform", pair, 50_000, 1000, 2, check_every=500)
    assert _decided(uniform) >= 0.92
    assert np.median(uniform.pulls[uniform.promoted >= 0]) <= 21_000
    top_two = simulate_promotion("top-two-thompson", pair, 50_000, 300, 2, check_every=500)
    assert _decided(top_two) >= 0.92
    thompson = simulate_promotion("thompson", pair, 50_000, 300, 2, check_every=500, floor=0.05)
    assert abs(_decided(thompson) - 0.23) <= 4 * (0.23 * 0.77 / 300) ** 0.5 + 0.02


# Chapelle & Li 2011, Table 1: a million steps among ten items, one of which retires with
# probability 1e-3 at each step.
STEPS, TABLE_RUNS = 250_000, 4


class InformedThompson(Thompson):
    """With the prior that the items' rates are drawn from, as in the paper."""

    def choose(
        self, statistics: ArmStatistics, reward: RewardModel, rng: np.random.Generator, pulls: Array | None = None
    ) -> NDArray[np.int64]:
        draws = rng.beta(4.0 + statistics.total, 4.0 + statistics.count - statistics.total)
        chosen: NDArray[np.int64] = np.argmax(draws, axis=-1)
        return chosen


@pytest.mark.parametrize(("delay", "reference"), [(1, 9105), (100, 11_550)])
def test_thompson__items_that_retire__regret_of_chapelle_and_li(delay: int, reference: float) -> None:
    found = simulate(InformedThompson(), retiring(10), STEPS, TABLE_RUNS, 3, batch=delay)
    assert found.final.sum() == pytest.approx(reference, rel=0.15)


@pytest.mark.parametrize(("delay", "reference"), [(1, 24_145), (100, 37_141)])
def test_ucb__items_that_retire__regret_of_chapelle_and_li(delay: int, reference: float) -> None:
    """Their UCB knows each item's age, which no policy of ours is told: so it is written out here,
    in the same world."""
    rng = np.random.default_rng(3)
    world, rows = retiring(10).begin(rng, TABLE_RUNS), np.arange(TABLE_RUNS)
    count, total, born, new_count, new_total = (np.zeros((TABLE_RUNS, 10)) for _ in range(5))
    replaced = np.zeros((TABLE_RUNS, 10), dtype=np.bool_)
    lost = 0.0
    for t in range(STEPS):
        now = world.step(t)
        if now.renewed is not None and now.renewed.any():
            replaced |= now.renewed
            born[now.renewed] = t
            new_count[now.renewed] = new_total[now.renewed] = 0.0
        if t % delay == 0:
            count[replaced] = total[replaced] = 0.0
            replaced[:] = False
            count += new_count
            total += new_total
            new_count[:] = new_total[:] = 0.0
        n = np.maximum(count, 1.0)
        mean, log = total / n, 0.5 * np.log(np.maximum(t - born, 1.0))
        index = np.where(count > 0, mean + np.sqrt(2.0 * mean * log / n) + 2.0 * log / n, np.inf)
        arm = choose_leader(index, rng)
        truth = now.means[rows, arm]
        lost += float((now.means.max(axis=1) - truth).sum())
        new_count[rows, arm] += 1.0
        new_total[rows, arm] += rng.random(TABLE_RUNS) < truth
    assert lost == pytest.approx(reference, rel=0.15)


def test_discount__nothing_changes__costs_little_and_is_the_same_policy() -> None:
    kept = simulate("thompson", bernoulli([0.9, 0.8]), 20_000, 200, 4).final.mean()
    fading = simulate(make("thompson", discount=0.9999), bernoulli([0.9, 0.8]), 20_000, 200, 4).final.mean()
    assert fading < 3 * kept
