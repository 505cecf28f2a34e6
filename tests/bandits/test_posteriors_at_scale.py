"""Posteriors of a thousand to a hundred million observations an arm: P(best) is a distribution, and
densities are true."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from bandits.belief import believe
from bandits.inference.best_arm import expected_loss, probability_best
from bandits.posteriors import BetaBernoulli, GammaPoisson, Gaussian, NormalInverseGamma
from bandits.reward import Direction, Kind, RewardModel
from bandits.statistics import ArmStatistics

LEVELS: dict[Kind, list[float]] = {
    "binary": [0.0, 1e-6, 0.002, 0.05, 0.5, 0.999, 1.0],
    "count": [0.0, 1e-5, 0.002, 0.1, 3.0, 100.0, 1e5],
    "continuous": [0.0, -50.0, 1e9],
}


@st.composite
def learned(draw: Any, kind: Kind) -> ArmStatistics:
    """Two to six arms of 1e3 to 1e8 observations, whose means lie so many standard errors apart."""
    arms = draw(st.integers(2, 6))
    count = np.round(10 ** np.array(draw(st.lists(st.floats(3, 8), min_size=arms, max_size=arms))))
    level = draw(st.sampled_from(LEVELS[kind]))
    apart = np.array(draw(st.lists(st.floats(-3, 3), min_size=arms, max_size=arms))) * draw(st.sampled_from([0, 1, 9]))
    variance = {"binary": level * (1.0 - level), "count": level, "continuous": 4.0}[kind]
    mean = level + apart * np.sqrt(variance / count)
    if kind != "continuous":
        mean = np.round(np.clip(mean, 0.0, 1.0 if kind == "binary" else None) * count) / count
    spread = draw(st.sampled_from([0.0, 1.0, 30.0])) if kind == "count" else 1.0
    return ArmStatistics(count, mean, count * variance * spread)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("kind", ["binary", "count", "continuous"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_probability_best__thousands_to_a_hundred_million_rewards_an_arm__is_a_distribution(
    kind: Kind, direction: Direction, data: Any
) -> None:
    statistics = data.draw(learned(kind))
    reward = RewardModel(kind, direction)
    found = probability_best(believe(statistics, reward).posterior)
    rows = ArmStatistics(*(np.atleast_2d(part) for part in (statistics.count, statistics.mean, statistics.m2)))
    together = probability_best(believe(rows, reward).posterior)[0]
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert (found >= 0.0).all()
    assert together == pytest.approx(found, abs=1e-12)
    assert (expected_loss(believe(statistics, reward).posterior) >= 0.0).all()


@pytest.mark.parametrize("total", [1e3, 1e4, 1e5, 1e6, 1e7, 1e8])
@pytest.mark.parametrize("mean", [0.002, 0.1, 0.9])
def test_density__integrates_to_the_distribution__at_every_size(total: float, mean: float) -> None:
    """The density's integral between two quantiles, by 40 Gauss-Legendre nodes, is the
    distribution's difference."""
    node, weight = np.polynomial.legendre.leggauss(40)
    scale = NormalInverseGamma().update(total, mean, total)
    families = (
        BetaBernoulli().update(total * mean, total * (1.0 - mean)),
        GammaPoisson(1.0, 1.0 / mean).update(total * mean, total),
        GammaPoisson().update(total * mean * 1e3, total),
        scale,
        Gaussian(mean, total**-0.5),
    )
    for posterior in families:
        for low, high in ((1e-4, 0.3), (0.3, 0.6), (0.6, 1.0 - 1e-4)):
            start, end = float(posterior.quantile(low)), float(posterior.quantile(high))
            x = (start + end) / 2.0 + (end - start) / 2.0 * node
            integral = float((weight * posterior.pdf(x)).sum()) * (end - start) / 2.0
            between = float(posterior.cdf(end) - posterior.cdf(start))
            assert integral == pytest.approx(between, abs=2e-10), (posterior, low)


def test_gamma__density_and_distribution__are_the_textbook_ones_where_that_is_exact() -> None:
    """Shape 1 is the exponential law; at 1e10 the median is the shape less a third (Choi 1994), and
    the density there nearly normal."""
    x = np.array([0.0, 1e-300, 0.5, 3.0, 40.0])
    assert GammaPoisson(1.0, 2.0).pdf(x) == pytest.approx(2.0 * np.exp(-2.0 * x), rel=1e-12)
    assert GammaPoisson(0.5, 2.0).pdf(x[2:]) == pytest.approx(
        np.sqrt(2.0 / x[2:]) * np.exp(-2.0 * x[2:]) / special.gamma(0.5), rel=1e-12
    )
    assert GammaPoisson(2.0, 2.0).pdf(np.array([-1.0, 0.0])) == pytest.approx([0.0, 0.0])
    many = GammaPoisson(1e10, 1.0)
    assert float(many.cdf(1e10 - 1.0 / 3.0)) == pytest.approx(0.5, abs=1e-12)
    assert float(many.pdf(1e10)) * np.sqrt(2.0 * np.pi * 1e10) == pytest.approx(1.0, abs=1e-10)


def test_probability_best__new_arm_among_many_old_ones__sums_to_one() -> None:
    count = np.concatenate(([0.0], np.full(19, 2_484_021.0)))
    found = probability_best(
        believe(ArmStatistics(count, np.zeros(20), count * 4.0), RewardModel("continuous")).posterior
    )
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert found[0] == pytest.approx(0.5, abs=0.01)
