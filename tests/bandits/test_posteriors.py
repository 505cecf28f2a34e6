"""Posteriors and statistics as values: they merge, fade, and are what textbooks and scikit-learn
say."""

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from bandits.delay import DelayHistograms
from bandits.memory import Memory
from bandits.posteriors import (
    BayesianLinear,
    BayesianLogistic,
    BetaBernoulli,
    GammaPoisson,
    LinearStatistics,
    NormalInverseGamma,
)
from bandits.statistics import ArmStatistics, Array

counts = st.integers(0, 1000).map(float)
rewards = st.lists(st.floats(-50, 50), min_size=1, max_size=12)


def moments(values: list[float]) -> tuple[float, float, float]:
    array = np.array(values)
    return float(len(array)), float(array.mean()), float(np.square(array - array.mean()).sum())


def beta(data: tuple[float, float]) -> BetaBernoulli:
    return BetaBernoulli().update(*data)


def gamma(data: tuple[float, float]) -> GammaPoisson:
    return GammaPoisson().update(*data)


def normal(data: list[float]) -> NormalInverseGamma:
    return NormalInverseGamma().update(*moments(data))


def same(one: Any, two: Any) -> bool:
    names = [field.name for field in fields(one)]
    return all(np.allclose(getattr(one, name), getattr(two, name), rtol=1e-7, atol=1e-7) for name in names)


@settings(max_examples=50, deadline=None)
@given(*(st.tuples(counts, counts),) * 3)
def test_conjugate__merged_in_any_order_and_grouping__is_the_same(one: Any, two: Any, three: Any) -> None:
    for make in (beta, gamma):
        a, b, c = make(one), make(two), make(three)
        assert same(a.merge(b), b.merge(a))
        assert same(a.merge(b).merge(c), a.merge(b.merge(c)))
        assert same(a.merge(b), make((one[0] + two[0], one[1] + two[1])))


@settings(max_examples=50, deadline=None)
@given(rewards, rewards, rewards)
def test_normal__merged_in_any_order_and_grouping__is_one_pass(
    one: list[float], two: list[float], three: list[float]
) -> None:
    a, b, c = normal(one), normal(two), normal(three)
    assert same(a.merge(b), b.merge(a))
    assert same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert same(a.merge(b).merge(c), normal(one + two + three))
    stepwise = NormalInverseGamma()
    for value in one:
        stepwise = stepwise.update(1.0, value, 0.0)
    assert same(stepwise, a)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), max_size=40))
def test_beta__a_list_of_updates__equals_its_counts(outcomes: list[bool]) -> None:
    stepwise = BetaBernoulli()
    for outcome in outcomes:
        stepwise = stepwise.update(float(outcome), float(not outcome))
    assert same(stepwise, beta((float(sum(outcomes)), float(len(outcomes) - sum(outcomes)))))


POSTERIORS = [BetaBernoulli(3.0, 5.0), GammaPoisson(4.0, 2.0), NormalInverseGamma(1.0, 4.0, 3.0, 2.0)]


@pytest.mark.parametrize("posterior", POSTERIORS, ids=lambda posterior: type(posterior).__name__)
def test_posterior__quantile_density_and_samples__agree(posterior: Any) -> None:
    q = np.linspace(0.01, 0.99, 25)
    assert posterior.cdf(posterior.quantile(q)) == pytest.approx(q, abs=1e-9)
    x = posterior.quantile(q)
    slope = (posterior.cdf(x + 1e-6) - posterior.cdf(x - 1e-6)) / 2e-6
    assert posterior.pdf(x) == pytest.approx(slope, rel=1e-4)
    draws = posterior.sample(np.random.default_rng(1), 100_000)
    assert abs(draws.mean() - posterior.mean) <= 5 * draws.std() / 100_000**0.5
    below = (draws[:, None] < posterior.quantile(q)).mean(axis=0)
    assert np.all(np.abs(below - q) <= 5 * np.sqrt(q * (1 - q) / 100_000))


@pytest.mark.parametrize(
    "wrong", [lambda: BetaBernoulli(0, 1), lambda: GammaPoisson(1, -1), lambda: NormalInverseGamma(0, 0, 1, 1)]
)
def test_posterior__impossible_parameters__are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="positive"):
        wrong()


def rows(seed: int = 1, n: int = 200, arms: int = 2) -> tuple[Any, Array, Array]:
    rng = np.random.default_rng(seed)
    x = np.column_stack((np.ones(n), rng.normal(size=(n, 2))))
    y = x @ np.array([0.5, -1.0, 2.0]) + rng.normal(0, 0.3, n)
    return rng.integers(0, arms, n), x, y


def test_linear__posterior_mean__is_ridge_regression() -> None:
    arm, x, y = rows()
    found = BayesianLinear.of(LinearStatistics.from_rows(arm, x, y, 2), ridge=2.0)
    for position in range(2):
        mine = arm == position
        fitted = Ridge(alpha=2.0, fit_intercept=False).fit(x[mine], y[mine])
        assert found.mean[position] == pytest.approx(fitted.coef_, rel=1e-9)
        assert found.precision[position] == pytest.approx(x[mine].T @ x[mine] + 2.0 * np.eye(3), rel=1e-9)


def test_linear_statistics__merged__shifted_and_through_json__are_one_pass() -> None:
    arm, x, y = rows()
    whole = LinearStatistics.from_rows(arm, x, y, 2)
    halves = LinearStatistics.from_rows(arm[:90], x[:90], y[:90], 2) + LinearStatistics.from_rows(
        arm[90:], x[90:], y[90:], 2
    )
    swapped = LinearStatistics.from_rows(arm[90:], x[90:], y[90:], 2) + LinearStatistics.from_rows(
        arm[:90], x[:90], y[:90], 2
    )
    again = LinearStatistics.from_dict(json.loads(json.dumps(whole.to_dict())))
    for other in (halves, swapped, again):
        assert other.gram == pytest.approx(whole.gram)
        assert other.moment == pytest.approx(whole.moment)
        assert other.rewards.m2 == pytest.approx(whole.rewards.m2)
    scaled = LinearStatistics.from_rows(arm, x, (y - 3.0) / -2.0, 2)
    assert whole.affine(3.0, -2.0).moment == pytest.approx(scaled.moment)
    assert whole.affine(3.0, -2.0).rewards.mean == pytest.approx(scaled.rewards.mean)
    assert whole.faded(0.5).gram == pytest.approx(whole.gram / 2)


def test_logistic__mode_and_curvature__are_those_of_the_penalised_likelihood() -> None:
    rng = np.random.default_rng(2)
    x = np.column_stack((np.ones(300), rng.normal(size=(300, 2))))
    y = (rng.random(300) < 1 / (1 + np.exp(-x @ np.array([0.3, 1.0, -2.0])))).astype(np.float64)
    fitted = LogisticRegression(C=1 / 2.0, fit_intercept=False, tol=1e-10, max_iter=2000).fit(x, y)
    found = BayesianLogistic.prior(3, ridge=2.0).update(x, y)
    assert found.mean == pytest.approx(fitted.coef_[0], abs=1e-5)

    def loss(theta: Array) -> float:
        return float(np.square(theta).sum() + (np.logaddexp(0, x @ theta) - y * (x @ theta)).sum())

    step = 1e-4 * np.eye(3)
    hessian = [
        [
            (loss(found.mean + a + b) - loss(found.mean + a - b) - loss(found.mean - a + b) + loss(found.mean - a - b))
            / 4e-8
            for b in step
        ]
        for a in step
    ]
    assert found.precision == pytest.approx(np.array(hessian), rel=1e-4)
    assert same(BayesianLogistic.from_dict(json.loads(json.dumps(found.to_dict()))), found)


def test_logistic__one_row__is_the_same_by_both_ways__and_extremes_converge() -> None:
    rng = np.random.default_rng(3)
    prior = BayesianLogistic.prior(3, ridge=0.5)
    for _ in range(20):
        x, y = rng.normal(size=(1, 3)) * rng.choice([0.1, 1.0, 30.0]), rng.integers(0, 2, 1).astype(np.float64)
        batch = prior.update(x, y)
        single = BayesianLogistic(prior.mean[None], prior.precision[None]).update_rows(x, y)
        assert single.mean[0] == pytest.approx(batch.mean, abs=1e-6)
        assert single.precision[0] == pytest.approx(batch.precision, rel=1e-5, abs=1e-9)
    separable = prior.update(np.array([[1.0, 100.0, 0.0]] * 50), np.ones(50))
    assert np.isfinite(separable.mean).all()
    assert prior.update(np.zeros((0, 3)), np.zeros(0)) is prior


def test_logistic__faded__is_wider_around_the_same_mode__down_to_the_prior() -> None:
    prior = BayesianLogistic.prior(3, ridge=0.5)
    _, x, y = rows(4)
    found = prior.update(x, (y > 0).astype(np.float64))
    faded = found.faded(0.6, prior.precision)
    assert (faded.mean == found.mean).all()
    assert faded.precision == pytest.approx(prior.precision + 0.6 * (found.precision - prior.precision))
    assert same(faded.faded(0.5, prior.precision), found.faded(0.3, prior.precision))
    assert found.faded(1e-12, prior.precision).precision == pytest.approx(prior.precision, abs=1e-9)
    # Where several are stacked, each fades as it does alone.
    stacked = BayesianLogistic(np.stack([found.mean, prior.mean]), np.stack([found.precision, prior.precision]))
    assert stacked.faded(0.6, prior.precision).precision[0] == pytest.approx(faded.precision)


def test_logistic__row_of_half_a_weight__is_what_a_batch_of_it_gives() -> None:
    prior = BayesianLogistic.prior(3)
    _, x, y = rows(5, n=1)
    good = (y > 0).astype(np.float64)
    whole = prior.update(x, good, np.array([0.5]))
    single = BayesianLogistic(prior.mean[None], prior.precision[None]).update_rows(x, good, 0.5)
    assert single.mean[0] == pytest.approx(whole.mean, abs=1e-9)
    assert single.precision[0] == pytest.approx(whole.precision, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(-100, 100)), min_size=1, max_size=40), st.floats(0.5, 0.999))
def test_memory__blocks_of_one_step__weigh_as_single_rewards(steps: list[tuple[int, float]], discount: float) -> None:
    n = len(steps)
    age = np.arange(n)[::-1]
    blocks = [ArmStatistics.from_rewards(np.array([arm]), np.array([value]), 3) for arm, value in steps[::-1]]
    stacked = ArmStatistics(*(np.stack([getattr(block, name) for block in blocks]) for name in ("count", "mean", "m2")))
    for memory in (Memory(discount=discount), Memory(sliding_window=max(n // 2, 1))):
        found = memory.recall(stacked, np.ones(n))
        weight = memory.weights(age.astype(np.float64))
        arm, value = np.array([step[0] for step in steps]), np.array([step[1] for step in steps])
        count = np.bincount(arm, weights=weight, minlength=3)
        total = np.bincount(arm, weights=weight * value, minlength=3)
        assert found.count == pytest.approx(count, abs=1e-9)
        assert found.total == pytest.approx(total, abs=1e-6)


def test_memory__window_that_cuts_a_block__counts_the_part_inside() -> None:
    blocks = ArmStatistics(np.array([[4.0], [10.0]]), np.array([[1.0], [0.0]]), np.zeros((2, 1)))
    found = Memory(sliding_window=9).recall(blocks, np.array([4.0, 10.0]))
    assert found.count[0] == pytest.approx(4 + 5)
    assert found.mean[0] == pytest.approx(4 / 9)
    assert Memory().recall(blocks, np.array([4.0, 10.0])).count[0] == 14


@pytest.mark.parametrize(
    "wrong", [{"discount": 0.0}, {"discount": 1.1}, {"sliding_window": 0}, {"discount": 0.9, "sliding_window": 3}]
)
def test_memory__impossible__is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|exclude"):
        Memory(**wrong)


def test_delays__histogram__gives_the_chance_that_feedback_came() -> None:
    arm = np.array([0] * 100 + [1] * 100)
    delay = np.concatenate((np.full(100, 5.0), np.full(100, 55.0)))
    found = DelayHistograms.of(arm[:150], delay[:150], 60.0, 2) + DelayHistograms.of(arm[150:], delay[150:], 60.0, 2)
    exposure = found.exposure(np.array([0.0, 10 / 60, 0.5, 1.0]))
    assert exposure[:, 0] == pytest.approx([0, 1, 1, 1], abs=0.02)
    assert exposure[:, 1] == pytest.approx([0, 0, 0, 1], abs=0.02)
    even = DelayHistograms.zeros(1).exposure(np.array([0.25, 0.5]))
    assert even[:, 0] == pytest.approx([0.25, 0.5])  # nothing known: evenly over the window
