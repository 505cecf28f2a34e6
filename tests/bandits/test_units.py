"""Outcomes that come by units: intervals that count users, not clicks."""

import numpy as np
import pytest

from bandits.inference.intervals import interval, watched_interval
from bandits.inference.units import UnitSums, of_units
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics
from benchmarks.interval_coverage import holdout_run


def test_units__each_with_one_outcome__are_the_outcomes() -> None:
    rewards = np.array([[1.0] * 7 + [0.0] * 33])
    sums = UnitSums.of(np.ones((1, 40)), rewards)
    mean = rewards.mean(axis=1)
    plain = ArmStatistics(np.array([40.0]), mean, 40 * mean * (1 - mean))
    for ends in (interval, watched_interval):
        for by_unit, by_decision in zip(
            ends(of_units(sums, mean), RewardModel()), ends(plain, RewardModel()), strict=True
        ):
            assert by_unit == pytest.approx(by_decision, rel=1e-9)


def test_units__unequal_and_few__are_worth_fewer() -> None:
    """Units that came 1, 1 and 2 times are worth 4^2 / 6 equal ones; totals 1, 0 and 1 differ from half of that by 1/2, -1/2 and 0."""
    sums = UnitSums.of(np.array([1.0, 1.0, 2.0]), np.array([1.0, 0.0, 1.0]))
    assert float(sums.effective_units) == pytest.approx(8 / 3)
    assert float(sums.squared_residual) == pytest.approx(0.5)
    # 0.5 / 4^2 by the delta method, times (8/3) / (8/3 - 1) for few units.
    assert float(sums.variance_of_mean()) == pytest.approx(0.5 / 16 * 1.6)
    assert float(of_units(sums, np.array(0.5)).count) == pytest.approx(8 / 3)


def test_units__one__tells_nothing() -> None:
    sums = UnitSums.of(np.array([[500.0], [0.0]]), np.array([[400.0], [0.0]]))
    assert of_units(sums, np.array([0.8, 0.0])).count.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("count", [20, 200])
@pytest.mark.parametrize("share", [0.1, 0.2])
@pytest.mark.parametrize(("mean", "visits"), [(0.3, 20), (0.05, 20), (0.3, 1)])
def test_holdout__units_that_return__benefit_and_both_sides_are_covered(
    count: int, share: float, mean: float, visits: int
) -> None:
    """By decision the benefit of nothing was covered in 40 to 50 % of such runs."""
    rng = np.random.default_rng(61)
    found = [held for _ in range(500) if (held := holdout_run(rng, count, share, mean, visits)) is not None]
    assert len(found) > 200
    bar = 0.92 - 2 * (0.92 * 0.08 / len(found)) ** 0.5
    assert (np.mean(found, axis=0) >= bar).all()


def test_watched__units_that_return__seldom_misses() -> None:
    """Forty units come in a random order for 2,000 decisions; looked at each 100."""
    rng, missed, runs = np.random.default_rng(62), 0, 200
    for _ in range(runs):
        means = rng.beta(0.6, 1.4, 40)
        unit = rng.integers(40, size=2000)
        value = (rng.random(2000) < means[unit]).astype(np.float64)
        ever = False
        for t in range(100, 2001, 100):
            sums = UnitSums.of(
                np.bincount(unit[:t], minlength=40).astype(np.float64),
                np.bincount(unit[:t], weights=value[:t], minlength=40).astype(np.float64),
            )
            mean = np.array(value[:t].mean())
            low, high = watched_interval(of_units(sums, mean), RewardModel())
            ever |= not low <= 0.3 <= high
        missed += ever
    assert missed / runs <= 0.05
