"""What was saved against an even split, by weights: where nothing was, nothing is told."""

import numpy as np
import pytest

from bandits.inference.even_split import EvenSplit, Saved, saved
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array
from benchmarks.interval_coverage import saved_runs


def of(arm: list[int], reward: list[float], propensities: list[list[float]]) -> EvenSplit:
    return EvenSplit.of(np.array(arm), np.array(reward), np.array(propensities))


def known(found: Saved | None) -> Saved:
    assert found is not None
    return found


def test_saved__even_propensities__is_the_hand_worked_number() -> None:
    """Means 1/4 of four and 3/4 of eight: earned 1 + 6 = 7, evenly 6 * 1/4 + 6 * 3/4 = 6."""
    arm, reward = [0] * 4 + [1] * 8, [1.0, 0, 0, 0] + [1.0] * 6 + [0.0] * 2
    found = known(saved(of(arm, reward, [[0.5, 0.5]] * 12), RewardModel()))
    assert found.value == pytest.approx(1.0)
    assert found.low < 0 < found.high
    mirrored = known(saved(of(arm, reward, [[0.5, 0.5]] * 12), RewardModel(direction="minimize")))
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_saved__weights__mend_what_the_allocation_did() -> None:
    """Two stretches: in the first both arms earn 1 and b has 80 %, in the second both earn 0 and b
    has 20 %.

    By raw means b (.8) beats a (.2); an even split of 20 decisions would have earned the same 10.
    """
    arm = [0] * 2 + [1] * 8 + [0] * 8 + [1] * 2
    reward = [1.0] * 10 + [0.0] * 10
    propensities = [[0.2, 0.8]] * 10 + [[0.8, 0.2]] * 10
    found = known(saved(of(arm, reward, propensities), RewardModel()))
    assert found.value == pytest.approx(0.0)
    assert found.low < 0 < found.high


def test_saved__arm_that_came_later__is_in_no_split_before() -> None:
    """Ten decisions with one arm that earns 1, then ten with two, of which the new one earns 0:
    evenly 10 + 5."""
    arm, reward = [0] * 10 + [0, 1] * 5, [1.0] * 10 + [1.0, 0.0] * 5
    sums = of(arm, reward, [[1.0, 0.0]] * 10 + [[0.5, 0.5]] * 10)
    assert sums.share.tolist() == [15.0, 5.0]
    assert known(saved(sums, RewardModel())).value == pytest.approx(0.0)


def test_saved__arm_that_could_not_be_served__is_in_no_split_once_left_out() -> None:
    """A third of the draws fell on an arm that failed, and left no outcome: the split of the other
    two alone."""
    two = of([0, 0, 0, 1], [1.0, 0.0, 1.0, 1.0], [[0.75, 0.25]] * 4)
    three = of([0, 0, 0, 1], [1.0, 0.0, 1.0, 1.0], [[0.5, 0.5 / 3, 1 / 3]] * 4)
    assert saved(three, RewardModel("binary")) is None
    left = three.without(np.array([False, False, True]))
    assert left.share == pytest.approx([2.0, 2.0, 0.0])
    assert known(saved(left, RewardModel("binary"))).value == pytest.approx(
        known(saved(two, RewardModel("binary"))).value
    )


def test_saved__what_cannot_be_known__is_none() -> None:
    assert saved(EvenSplit(ArmStatistics.zeros(3, 2), np.zeros(2)), RewardModel()) is None
    assert saved(of([0] * 5, [1.0] * 5, [[1.0, 0.0]] * 5), RewardModel()) is None  # never a choice
    assert saved(of([0] * 5, [1.0] * 5, [[0.9, 0.1]] * 5), RewardModel()) is None  # an arm of which nothing is known


def test_saved__sums__add_and_an_offset_changes_nothing() -> None:
    rng = np.random.default_rng(51)
    propensities = rng.dirichlet([2.0, 2.0, 2.0], 300)
    arm = np.array([rng.choice(3, p=row) for row in propensities])
    reward = rng.normal(size=300)
    whole = EvenSplit.of(arm, reward, propensities)
    parts = EvenSplit.of(arm[:100], reward[:100], propensities[:100]) + EvenSplit.of(
        arm[100:], reward[100:], propensities[100:]
    )
    model = RewardModel("continuous")
    one = known(saved(whole, model))
    for other in (known(saved(parts, model)), known(saved(EvenSplit.of(arm, reward + 1e9, propensities), model))):
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high), abs=1e-3)


@pytest.mark.parametrize("means", [[0.05] * 5, [0.3] * 5, [0.9] * 2])
def test_saved__equal_arms_under_thompson__tells_no_gain(means: list[float]) -> None:
    """By raw means a gain was told in 80 to 99.8 % of runs."""
    runs = 120
    covered, gain, raw = saved_runs(means, 2000, runs, seed=52, burn_in=50)
    assert covered >= 0.92 - 2 * (0.92 * 0.08 / runs) ** 0.5
    assert gain <= 0.05
    assert raw >= 0.7


def test_saved__clear_difference__is_told() -> None:
    covered, gain, _ = saved_runs([0.62, 0.86, 0.956], 1500, 60, seed=53, burn_in=50)
    assert covered >= 0.85
    assert gain >= 0.9


@pytest.mark.parametrize("means", [[0.08, 0.1], [0.4, 0.7], [0.1, 0.2, 0.9]])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_saved__policy_that_drew_evenly__luck_of_the_draw_is_no_gain(means: list[float], direction: str) -> None:
    """By the error of the means alone a gain or a loss was told in most runs: what was drawn more
    often by chance had earned something."""
    rng = np.random.default_rng(56)
    arms, runs, told = len(means), 200, 0
    for _ in range(runs):
        arm = rng.integers(arms, size=600)
        reward = (rng.random(600) < np.array(means)[arm]).astype(np.float64)
        propensities = np.full((600, arms), 1.0 / arms)
        found = known(saved(EvenSplit.of(arm, reward, propensities), RewardModel("binary", direction)))
        told += not found.low <= 0.0 <= found.high
    assert told <= 0.05 * runs + 2.0 * (0.05 * 0.95 * runs) ** 0.5


def test_saved__units_that_keep_their_arm__are_drawn_once_each() -> None:
    """Forty units of ten outcomes each are forty draws."""
    rng = np.random.default_rng(57)
    told, narrow = 0, 0
    for _ in range(200):
        arm = np.repeat(rng.integers(2, size=40), 10)
        reward = (rng.random(400) < np.array([0.3, 0.6])[arm]).astype(np.float64)
        sums = EvenSplit.of(arm, reward, np.full((400, 2), 0.5))
        by_unit, by_outcome = (known(saved(sums, RewardModel("binary"), draws=draws)) for draws in (40.0, None))
        told += not by_unit.low <= 0.0 <= by_unit.high
        narrow += not by_outcome.low <= 0.0 <= by_outcome.high
    assert told <= 16
    assert narrow > 60


def contextual_log(rng: np.random.Generator, decisions: int) -> tuple[Array, Array, Array, float]:
    """Arms alike on average, each better on half of the requests, and a policy that knows which:
    (arm, reward, propensities, truth)."""
    first_half = rng.random(decisions) < 0.5
    likes = np.where(first_half[:, None], [0.95, 0.05], [0.05, 0.95])
    arm = (rng.random(decisions) >= likes[:, 0]).astype(np.int64)
    means = np.where(first_half[:, None], [0.9, 0.1], [0.1, 0.9])
    mean = means[np.arange(decisions), arm]
    return arm, (rng.random(decisions) < mean).astype(np.float64), likes, float(mean.sum() - 0.5 * decisions)


def test_saved__contextual_policy__is_what_choosing_by_request_earned() -> None:
    """Raw means are both .86, and by them nothing is saved; by weights each arm is worth .5."""
    rng = np.random.default_rng(54)
    held = 0
    for _ in range(60):
        arm, reward, propensities, truth = contextual_log(rng, 2000)
        found = known(saved(EvenSplit.of(arm, reward, propensities), RewardModel()))
        held += found.low <= truth <= found.high
        assert found.low > 300
    assert held >= 52


def test_sums_from_a_level__rewards_far_from_0__are_the_split_itself() -> None:
    rng = np.random.default_rng(75)
    arm = rng.integers(2, size=200)
    propensities = np.where(np.arange(200)[:, None] % 3 == 0, [0.2, 0.8], [0.6, 0.4])
    reward = 1e9 + np.round(rng.random(200), 3)
    expected = EvenSplit.of(arm, reward - 1e9, propensities)
    level = np.array([reward[arm == i].min() for i in range(2)])
    weight = 0.5 / propensities[np.arange(200), arm]
    rows = [(weight**power, arm == i, reward - level[i]) for power in range(3) for i in range(2)]
    count, total, squares = (
        np.array([(w * here * above**k).sum() for w, here, above in rows]).reshape(3, 2) for k in range(3)
    )
    found = EvenSplit.from_sums(level, count, total, squares, expected.share)
    assert found.moments.count == pytest.approx(expected.moments.count)
    assert found.moments.mean - 1e9 == pytest.approx(expected.moments.mean, abs=1e-6)
    assert found.moments.m2 == pytest.approx(expected.moments.m2, rel=1e-7)
