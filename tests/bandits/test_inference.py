"""Inference against reference numbers, and against what must hold for any numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.inference import expected_loss, potential_value_remaining, probability_best
from bandits.inference.quadrature import cuts_of, nodes
from bandits.posteriors import BetaBernoulli, GammaPoisson, NormalInverseGamma
from bandits.statistics import ArmStatistics


def test_probability_best__reference_pair__matches() -> None:
    pair = [BetaBernoulli(51, 951), BetaBernoulli(61, 941)]
    assert probability_best(pair)[1] == pytest.approx(0.835611264875, abs=1e-11)
    assert expected_loss(pair)[1] == pytest.approx(8.934656445e-4, abs=1e-11)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=2, max_size=6))
def test_probability_best__any_beta_arms__sums_to_one(arms: list[tuple[int, int]]) -> None:
    posterior = BetaBernoulli(np.array([1.0 + s for s, _ in arms]), np.array([1.0 + f for _, f in arms]))
    assert probability_best(posterior).sum() == pytest.approx(1.0, abs=1e-11)


def test_probability_best__fresh_arm_meets_mature_ones__is_exact() -> None:
    # Plain 64-node quadrature summed to 0.9555 here.
    posterior = BetaBernoulli(np.array([1.0, 5001.0, 9001.0]), np.array([1.0, 5001.0, 9101.0]))
    draws = posterior.sample(np.random.default_rng(1), (400_000, 3))
    share = np.bincount(draws.argmax(axis=1), minlength=3) / 400_000
    found = probability_best(posterior)
    assert found.sum() == pytest.approx(1.0, abs=1e-11)
    assert np.all(np.abs(found - share) <= 4 * np.sqrt(found * (1 - found) / 400_000) + 1e-6)


def test_probability_best__hundred_fresh_arms__is_even() -> None:
    found = probability_best(BetaBernoulli(np.ones(100), np.ones(100)))
    assert found == pytest.approx(np.full(100, 0.01), abs=1e-12)


def test_probability_best__many_sets_of_arms_at_once__are_what_each_is_alone() -> None:
    # Of the first set alone the panels have to be made finer: its new arm has a heavy tail.
    count = np.array([[0.0, 0.0, 800.0], [50.0, 900.0, 20_000.0], [1e6, 1e6, 1e6]])
    mean = np.array([[0.0, 0.0, 0.3], [0.1, 0.12, 0.11], [0.5, 0.5001, 0.499]])
    together = NormalInverseGamma().update(count, mean, count)
    for row in range(3):
        alone = NormalInverseGamma().update(count[row], mean[row], count[row])
        assert probability_best(together)[row] == pytest.approx(probability_best(alone), abs=1e-11)
        assert expected_loss(together)[row] == pytest.approx(expected_loss(alone), abs=1e-9)


def test_probability_best__arms_of_different_families__are_held_against_each_other() -> None:
    found = probability_best([GammaPoisson(20.0, 10.0), NormalInverseGamma(2.0, 40.0, 30.0, 30.0)])
    rng = np.random.default_rng(4)
    counts, others = rng.gamma(20.0, 0.1, 400_000), NormalInverseGamma(2.0, 40.0, 30.0, 30.0).sample(rng, 400_000)
    assert found[0] == pytest.approx(float((counts > others).mean()), abs=4 * 0.5 / 400_000**0.5)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)


def test_quadrature__hundred_arms_that_lie_together__need_hardly_more_nodes_than_one() -> None:
    def count(arms: int) -> int:
        cuts = cuts_of(BetaBernoulli(np.linspace(40.0, 60.0, arms)[None, :], 950.0))
        return len(nodes(cuts, cuts[0].min(axis=-1), cuts[-1].max(axis=-1))[0])

    assert count(100) < 3 * count(1)


def test_probability_best__other_families__match_sampling() -> None:
    for posterior in (
        NormalInverseGamma(np.array([0.0, 0.2]), np.array([5.0, 9.0]), np.array([3.0, 5.0]), np.array([2.0, 4.0])),
        GammaPoisson(np.array([20.0, 30.0]), np.array([10.0, 12.0])),
    ):
        draws = posterior.sample(np.random.default_rng(2), (200_000, 2))
        share = float((draws[:, 1] > draws[:, 0]).mean())
        assert probability_best(posterior)[1] == pytest.approx(share, abs=4 * 0.5 / 200_000**0.5)


def test_potential_value_remaining__matches_sampling() -> None:
    pair = BetaBernoulli(np.array([51.0, 61.0]), np.array([951.0, 941.0]))
    draws = pair.sample(np.random.default_rng(3), (400_000, 2))
    gain = np.quantile(np.maximum(draws[:, 0] - draws[:, 1], 0.0), 0.95)
    assert potential_value_remaining(pair, champion=1) == pytest.approx(float(gain), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(-100, 100)), max_size=60), st.integers(0, 60))
def test_statistics__merged_in_two_parts__equal_one_pass(rows: list[tuple[int, float]], cut: int) -> None:
    def of(part: list[tuple[int, float]]) -> ArmStatistics:
        arm = np.array([arm for arm, _ in part], dtype=np.int64)
        return ArmStatistics.from_rewards(arm, np.array([value for _, value in part], dtype=np.float64), 3)

    whole, merged, swapped = of(rows), of(rows[:cut]) + of(rows[cut:]), of(rows[cut:]) + of(rows[:cut])
    for one in (merged, swapped):
        assert np.array_equal(one.count, whole.count)
        assert np.allclose(one.mean, whole.mean, rtol=1e-9, atol=1e-9)
        assert np.allclose(one.m2, whole.m2, rtol=1e-6, atol=1e-6)
