"""Evidence that a limit was passed: false in at most alpha of all runs however often one looks, and
there when it should be."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from bandits.inference.betting import FAR, STAKES, Ladder, Wagers, failure_wagers, gains_above, reach
from bandits.inference.limits import STEPS, highest_proportion, proportion_evidence, proportion_wagers
from benchmarks.guardrails import SKEWED, VALUES, differences, first_of_mean, first_of_proportion

RUNS = 100


def within(runs: int) -> float:
    """How many of `runs` may be acted on at most, with alpha 5 % and four standard errors. The
    normal limit acted in 24 to 97 %."""
    return 0.05 * runs + 4 * math.sqrt(runs * 0.05 * 0.95)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.5])
def test_proportion__exactly_at_its_limit__is_rarely_acted_on_at_any_of_20_000_looks(rate: float) -> None:
    rng = np.random.default_rng(11)
    acted = sum(first_of_proportion(rng.random(VALUES) < rate, rate) is not None for _ in range(RUNS))
    assert acted <= within(RUNS)


@pytest.mark.parametrize(("truth", "decisions"), [(0.002, 40_000), (0.003, 20_000)])
def test_proportion__small_limit_passed_twice_or_thrice__is_shown(truth: float, decisions: int) -> None:
    rng = np.random.default_rng(12)
    acted = sum(first_of_proportion(rng.random(decisions) < truth, 0.001) is not None for _ in range(RUNS))
    assert acted >= 0.9 * RUNS


def test_proportion__arm_that_always_fails__is_shown_within_its_first_decisions() -> None:
    assert proportion_evidence(5, 5, 0.1) > 20.0
    assert proportion_evidence(10, 10, 0.5) > 20.0


def test_proportion__evidence__is_the_mean_of_likelihood_ratios() -> None:
    odds = 0.02 / 0.98 * np.exp(STEPS)
    p = odds / (1.0 + odds)
    expected = np.mean((p / 0.02) ** 3 * ((1 - p) / 0.98) ** 7)
    assert proportion_evidence(3, 10, 0.02) == pytest.approx(float(expected))
    assert proportion_evidence(0, 10, 0.0) == 1.0
    assert proportion_evidence(1, 10, 0.0) == math.inf
    assert proportion_evidence(10, 10, 1.0) == 1.0
    assert math.isfinite(proportion_evidence(1e9, 1e9, 1e-9))
    with pytest.raises(ValueError, match="a part was expected"):
        proportion_evidence(3, 2, 0.1)


def test_highest_proportion__is_where_the_mixture_beats_it_by_one_in_alpha() -> None:
    high = highest_proportion(3, 200, 0.05)
    marginal = stats.betabinom.pmf(3, 200, 0.5, 0.5)
    assert marginal / stats.binom.pmf(3, 200, high) == pytest.approx(20.0, rel=1e-6)
    assert high > 3 / 200
    assert highest_proportion(0, 0, 0.05) == 1.0
    assert highest_proportion(10, 10, 0.05) == 1.0
    assert highest_proportion(0, 10_000, 0.05) < 0.001


@pytest.mark.parametrize("side", [1.0, -1.0], ids=["max", "min"])
@pytest.mark.parametrize("name", SKEWED)
def test_mean__exactly_at_its_limit_without_bounds__is_rarely_acted_on(name: str, side: float) -> None:
    draw, mean, _ = SKEWED[name]
    rng = np.random.default_rng(13)
    acted = sum(first_of_mean(side * draw(rng, VALUES), side * mean) is not None for _ in range(40))
    assert acted <= within(40)


@pytest.mark.parametrize(("name", "soon"), [("normal(5, 1)", 100), ("exponential(1)", 500), ("1 % x 100", 10_000)])
def test_mean__half_or_twice_what_it_may_be__is_shown(name: str, soon: int) -> None:
    draw, mean, (low, high) = SKEWED[name]
    rng = np.random.default_rng(14)
    for side, limit, bound in ((1.0, mean / 2, low), (-1.0, -mean * 2, None if high is None else -high)):
        for minimum in {bound, None}:
            after = [first_of_mean(side * draw(rng, VALUES), limit, minimum) or VALUES for _ in range(20)]
            assert np.median(after) <= soon


def test_mean__never_varied__says_nothing_without_bounds() -> None:
    assert reach(3.0, 5.0, 5.0) is None
    assert reach(3.0, 5.0, 5.0, minimum=1.0) == 2.0
    assert reach(3.0, 5.0, 6.0) == FAR * 3.0  # nothing below 0 was seen
    assert reach(3.0, -1.0, 6.0) == FAR * 4.0
    assert reach(-3.0, 1.0, 6.0) == FAR * 9.0


def test_mean__value_of_1e160__adds_to_the_evidence_and_overflows_nothing() -> None:
    values = np.array([5.0] * 60 + [1e160])
    with np.errstate(over="raise", invalid="raise"):
        wagers = Wagers.on(gains_above(values, 3.0, 18.0))
        assert math.isfinite(wagers.evidence)
    assert wagers.evidence > Wagers.on(gains_above(values[:60], 3.0, 18.0)).evidence > 1.0


def test_wagers__forecast__comes_true_for_values_that_go_on_alike() -> None:
    gains = gains_above(np.array([1.2] * 40), 1.0, 2.0)
    wagers = Wagers.on(gains)
    more = wagers.more(40, 20.0)
    assert more is not None
    assert Wagers.on(np.repeat(gains[:1], 40 + math.ceil(more))).evidence >= 20.0
    assert Wagers.none().more(0, 20.0) is None
    assert Wagers.on(np.array([-0.1] * 40)).more(40, 20.0) is None


def test_failures__expectation_where_the_arm_is_at_the_margin__is_at_most_one() -> None:
    # Every outcome of two decisions of the arm and three of the control, weighed by its
    # probability.
    base, margin = 0.3, 0.1
    for rate, low in ((base + margin, 0.9), (base, 0.0)):
        total = 0.0
        for own_failed, control_failed in itertools.product(range(3), range(4)):
            wagers = failure_wagers(
                np.array([float(own_failed)]),
                np.array([2.0]),
                np.array([float(control_failed)]),
                np.array([3.0]),
                margin,
            )
            weight = stats.binom.pmf(own_failed, 2, rate) * stats.binom.pmf(control_failed, 3, base)
            total += float(weight) * wagers.evidence
        assert low <= total <= 1.0


def test_failures__one_stratum__by_hand() -> None:
    # Half the traffic each, no margin: the arm's failure brings (1 - q) / q = 1, the control's -1,
    # the rest nothing.
    wagers = failure_wagers(np.array([2.0]), np.array([5.0]), np.array([1.0]), np.array([5.0]), 0.0)
    assert wagers.logs == pytest.approx(np.log((1 + STAKES) ** 2 * (1 - STAKES)))
    alone = failure_wagers(np.array([5.0]), np.array([5.0]), np.array([0.0]), np.array([0.0]), 0.0)
    assert alone.evidence == pytest.approx(1.0)


def test_ladder__each_reach_that_is_a_power_of_two__holds_the_bets_of_that_reach() -> None:
    rng = np.random.default_rng(21)
    values, limit = rng.lognormal(0.0, 1.5, 500) - 2.0, 1.3
    ladder = Ladder.on(values[:200], limit) + Ladder.on(values[200:], limit)
    least = reach(limit, float(values.min()), float(values.max()))
    assert least is not None
    for far in (least, 40.0, 1e6):
        rounded = 2.0 ** math.ceil(math.log2(far))
        assert ladder.wagers(far).logs == pytest.approx(Wagers.on(gains_above(values, limit, rounded)).logs, rel=1e-9)


@pytest.mark.parametrize("limit", [-1e15, 0.0, 1e15])
def test_ladder__values_and_limits_at_the_ends_of_what_is_taken__are_finite(limit: float) -> None:
    values = np.array([-1e15, 1e15, 1e-300, 0.0] * 5)
    far = reach(limit, -1e15, 1e15)
    assert far is not None
    assert np.isfinite(Ladder.on(values, limit).logs).all()
    assert Ladder.on(values, limit).wagers(far).logs == pytest.approx(
        Wagers.on(gains_above(values, limit, 2.0 ** math.ceil(math.log2(far)))).logs, rel=1e-9
    )


def test_difference__equal_arms_under_common_drift_and_shares_that_go_with_it__are_left_alone() -> None:
    for row in differences(20, 16):
        assert row.acted <= 3 if row.harmless else row.acted >= 18, row


@pytest.mark.parametrize("limit", [0.0, 1.5])
def test_wagers__proportion_with_a_limit_that_is_none__is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="limit"):
        proportion_wagers(1, 2, limit)
