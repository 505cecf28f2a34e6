"""Sample-ratio mismatch by each decision's own propensities: quiet while the split is as logged,
however long it is watched."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from bandits.inference.sample_ratio import ALARM, SampleRatio, sample_ratio_p
from bandits.statistics import Array


def drawn(propensities: Array, generator: np.random.Generator) -> NDArray[np.int64]:
    passed = generator.random((len(propensities), 1)) > propensities.cumsum(axis=1)
    arm: NDArray[np.int64] = passed.sum(axis=1).clip(max=propensities.shape[1] - 1)
    return arm


def varying(n: int, arms: int, generator: np.random.Generator) -> Array:
    """Propensities of a policy that learns: new ones each hundred decisions, never below 2 %."""
    snapshots = generator.dirichlet(np.ones(arms), -(-n // 100)) * (1.0 - 0.02 * arms) + 0.02
    return np.repeat(snapshots, 100, axis=0)[:n]


def test_sample_ratio__one_decision__is_the_average_of_its_factors() -> None:
    found = SampleRatio.zeros(2).observe(np.array([0]), np.array([[0.2, 0.8]]))
    w = np.exp(np.array([0.005, 0.02, 0.08, 0.3, 1.2, -0.005, -0.02, -0.08, -0.3, -1.2]))
    factors = np.concatenate([w / (1 + 0.2 * (w - 1)), 1 / (1 + 0.8 * (w - 1))])
    assert np.exp(found.log_factors).ravel() == pytest.approx(factors)
    assert found.p == pytest.approx(min(1.0, 1.0 / factors.mean()))


def test_sample_ratio__nothing_seen_or_one_arm_alone__is_not_known() -> None:
    assert SampleRatio.zeros(2).p is None
    assert SampleRatio.zeros(2).observe(np.zeros(0, dtype=np.int64), np.zeros((0, 2))).p is None
    assert SampleRatio.zeros(2).observe(np.zeros(50, dtype=np.int64), np.tile([1.0, 0.0], (50, 1))).p is None


def test_sample_ratio__as_logged_and_watched__is_quiet() -> None:
    alarms = 0
    for seed in range(100):
        generator, watched = np.random.default_rng(seed), SampleRatio.zeros(3)
        for _ in range(40):
            e = varying(500, 3, generator)
            watched += SampleRatio.zeros(3).observe(drawn(e, generator), e)
            assert watched.p is not None
            if watched.p < ALARM:
                alarms += 1
                break
    assert alarms / 100 <= ALARM + 4 * (ALARM / 100) ** 0.5


def test_sample_ratio__five_percent_misrouted_under_varying_propensities__is_found() -> None:
    found = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        e = varying(20_000, 2, generator)
        arm = np.where(generator.random(20_000) < 0.05, 0, drawn(e, generator))
        p = SampleRatio.zeros(2).observe(arm, e).p
        found += p is not None and p < ALARM
    assert found >= 95


def test_sample_ratio__arm_that_could_not_be_drawn__is_found() -> None:
    arm = np.array([0, 1] * 30)
    p = SampleRatio.zeros(2).observe(arm, np.tile([1.0, 0.0], (60, 1))).p
    assert p is not None
    assert p < ALARM


def test_sample_ratio__fed_with_answered_decisions__tells_different_rates_of_answers() -> None:
    alarms = {(0.9, 0.9): 0, (0.9, 0.75): 0}
    for rates in alarms:
        for seed in range(60):
            generator = np.random.default_rng(seed)
            e = varying(10_000, 2, generator)
            arm = drawn(e, generator)
            answered = generator.random(10_000) < np.array(rates)[arm]
            p = SampleRatio.zeros(2).observe(arm[answered], e[answered]).p
            alarms[rates] += p is not None and p < ALARM
    assert alarms[0.9, 0.9] == 0
    assert alarms[0.9, 0.75] >= 57


def test_sample_ratio__in_parts_and_any_order__is_the_same_and_survives_json() -> None:
    generator = np.random.default_rng(3)
    e = varying(1000, 3, generator)
    arm = drawn(e, generator)
    whole = SampleRatio.zeros(3).observe(arm, e)
    first, second = (SampleRatio.zeros(3).observe(arm[part], e[part]) for part in (slice(300), slice(300, None)))
    for merged in (
        first + second,
        second + first,
        SampleRatio.from_dict(json.loads(json.dumps(first.to_dict()))) + second,
    ):
        assert np.allclose(merged.log_factors, whole.log_factors, rtol=1e-12, atol=1e-9)
        assert np.array_equal(merged.seen, whole.seen)
        assert np.allclose(merged.expected, whole.expected)
    assert whole.seen.sum() == pytest.approx(whole.expected.sum())


def test_sample_ratio__arm_added__counts_from_then_on() -> None:
    generator = np.random.default_rng(4)
    e = varying(500, 2, generator)
    before = SampleRatio.zeros(2).observe(drawn(e, generator), e)
    later = varying(500, 3, generator)
    after = SampleRatio.zeros(3).observe(drawn(later, generator), later)
    assert np.array_equal((before + after).log_factors, (before.with_arms(3) + after).log_factors)
    assert (after + before).arms == 3
    with pytest.raises(ValueError, match="propensities"):
        before.observe(np.array([2]), np.array([[0.2, 0.3, 0.5]]))


def test_chi_squared__as_logged_and_not__tells_them_apart() -> None:
    assert sample_ratio_p([500, 500], [510.0, 490.0]) == pytest.approx(0.527, abs=1e-3)
    found = sample_ratio_p([600, 400], [500.0, 500.0])
    assert found is not None
    assert found < 1e-9
    assert sample_ratio_p([1, 1], [1.0, 1.0]) is None
