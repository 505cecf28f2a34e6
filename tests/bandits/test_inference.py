"""Inference against reference numbers, and against what must hold for any numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.inference import expected_loss, potential_value_remaining, probability_best
from bandits.inference.anytime import Evidence, verdict
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


def evidence_of(means: list[float], n: int, seed: int, bucket: int = 100, indifference: float = 0.0) -> Evidence:
    generator = np.random.default_rng(seed)
    evidence = Evidence.empty(len(means), indifference)
    for _ in range(0, n, bucket):
        arm = generator.integers(len(means), size=bucket)
        outcome = (generator.random(bucket) < np.array(means)[arm]).astype(float)
        evidence = evidence.observe(arm, outcome, np.full((bucket, len(means)), 1 / len(means)))
    return evidence


def promoted_first(means: list[float], n: int, seed: int, bucket: int) -> tuple[int, int]:
    """(promoted arm or -1, decisions until then), checked after each bucket."""
    generator = np.random.default_rng(seed)
    evidence = Evidence.empty(len(means))
    for t in range(bucket, n + 1, bucket):
        arm = generator.integers(len(means), size=bucket)
        outcome = (generator.random(bucket) < np.array(means)[arm]).astype(float)
        evidence = evidence.observe(arm, outcome, np.full((bucket, len(means)), 1 / len(means)))
        found = verdict(evidence, 0.05)
        if found.action == "promote":
            assert found.arm is not None
            return found.arm, t
    return -1, n


def test_anytime__equal_arms_watched_all_along__seldom_promotes() -> None:
    runs = 200
    wrong = sum(promoted_first([0.05, 0.05], 4000, seed, 100)[0] >= 0 for seed in range(runs))
    # At most alpha = 0.05 in truth; 4 standard errors of 200 runs above it.
    assert wrong / runs <= 0.05 + 4 * (0.05 * 0.95 / runs) ** 0.5


def test_anytime__clear_winner__is_promoted_and_soon() -> None:
    found = [promoted_first([0.65, 0.84, 0.955], 4000, seed, 50) for seed in range(30)]
    assert [arm for arm, _ in found] == [2] * 30
    assert np.median([n for _, n in found]) <= 800


def test_anytime__order_within_a_bucket__does_not_matter() -> None:
    generator = np.random.default_rng(4)
    arm, outcome = generator.integers(3, size=500), generator.random(500)
    e = generator.dirichlet(np.ones(3), 500)
    shuffle = generator.permutation(500)
    one = Evidence.empty(3, 0.01).observe(arm, outcome, e)
    two = Evidence.empty(3, 0.01).observe(arm[shuffle], outcome[shuffle], e[shuffle])
    assert np.allclose(one.superior, two.superior, rtol=1e-12, atol=1e-12)
    assert one.noninferior is not None
    assert two.noninferior is not None
    assert np.allclose(one.noninferior, two.noninferior, rtol=1e-12, atol=1e-12)


def test_anytime__state__survives_json() -> None:
    import json

    evidence = evidence_of([0.3, 0.4], 500, 5, indifference=0.05)
    again = Evidence.from_dict(json.loads(json.dumps(evidence.to_dict())))
    assert np.array_equal(again.superior, evidence.superior)
    assert again.to_dict() == evidence.to_dict()


def test_anytime__equal_arms_with_indifference__end_as_stop() -> None:
    found = verdict(evidence_of([0.5, 0.5], 6000, 6, indifference=0.1), 0.05)
    assert found.action == "stop"


def test_anytime__different_arms_with_indifference__never_stop() -> None:
    found = verdict(evidence_of([0.4, 0.6], 3000, 7, indifference=0.05), 0.05)
    assert (found.action, found.arm) == ("promote", 1)


def test_anytime__impossible_rows__are_refused() -> None:
    evidence = Evidence.empty(2)
    with pytest.raises(ValueError, match="outcomes"):
        evidence.observe(np.array([0]), np.array([1.5]), np.array([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="propensity"):
        evidence.observe(np.array([0]), np.array([1.0]), np.array([[0.0, 1.0]]))


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
