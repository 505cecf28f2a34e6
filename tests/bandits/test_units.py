"""Outcomes that come by units: intervals that count users, not clicks."""

import numpy as np
import pytest

from bandits.inference.intervals import interval, watched_interval
from bandits.inference.units import UnitSums, UnitTotals, of_units
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
    """Units that came 1, 1 and 2 times are worth 4^2 / 6 equal ones; totals 1, 0 and 1 differ from
    half of that by 1/2, -1/2 and 0."""
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


@pytest.mark.parametrize(("offset", "level"), [(0.0, 0.0), (0.0, 1.0), (1e9, 1e9 + 0.25), (-1e9, -1e9 + 3.0)])
def test_totals__kept_while_units_come_again__are_the_sums_around_the_last_mean(offset: float, level: float) -> None:
    """Outcomes come one at a time; the sums of squares grow by what each adds to its unit."""
    rng = np.random.default_rng(62)
    count, above, values = np.zeros(30), np.zeros(30), [[] for _ in range(30)]
    kept = np.zeros(5)
    for _ in range(2000):
        unit = int(rng.integers(30) * rng.random())
        value = offset + float(np.round(rng.normal(unit / 10, 1.0), 2))
        values[unit].append(value - offset)
        grown, d = np.array([1.0, value - level]), value - level
        kept += [1.0, d, 2 * count[unit] + 1, count[unit] * d + above[unit] + d, d * (2 * above[unit] + d)]
        count[unit] += grown[0]
        above[unit] += grown[1]
    found = UnitTotals(*(np.array([part]) for part in kept))
    expected = UnitSums.of(count[None], np.array([[sum(one) for one in values]]))
    assert found.mean + level - offset == pytest.approx(sum(map(sum, values)) / 2000, abs=1e-6)
    sums = found.around_mean()
    assert sums.count.tolist() == [2000.0]
    assert sums.squared_count.tolist() == expected.squared_count.tolist()
    assert sums.squared_residual == pytest.approx(expected.squared_residual, rel=1e-7)


def test_totals__outcomes_all_alike__leave_exactly_0() -> None:
    assert UnitTotals(*(np.array([part]) for part in (9.0, 0.0, 33.0, 0.0, 0.0))).around_mean().squared_residual == [
        0.0
    ]
    # Rounding may leave less than 0 where units are all alike: three units of two outcomes, each
    # 0.1 above the level.
    unit = 0.1 + 0.1
    sums = UnitTotals(*(np.array([part]) for part in (6.0, 3 * unit, 12.0, 6 * unit, 3 * unit * unit))).around_mean()
    assert 0.0 <= float(sums.squared_residual[0]) < 1e-15
