"""Off-policy evaluation: unbiased, with intervals that cover as often as they say, and honest about
what a log can't answer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bandits import policies
from bandits.ope import (
    Estimate,
    Log,
    Unsupported,
    dr,
    evaluate,
    fitted_rewards,
    ips,
    snips,
    switch_dr,
    target_probabilities,
)
from bandits.reward import RewardModel
from bandits.statistics import Array

RUNS, N = 1000, 800
ESTIMATORS: dict[str, Callable[..., Estimate]] = {"ips": ips, "snips": snips, "dr": dr, "switch_dr": switch_dr}


def logs(seed: int) -> tuple[Any, ...]:
    """RUNS logs of N decisions: three arms whose means, logged and target probabilities depend on a
    feature."""
    rng = np.random.default_rng(seed)
    x = rng.random((RUNS, N))
    mean = np.stack([0.2 + 0.5 * x, 0.6 - 0.4 * x, np.full_like(x, 0.35)], axis=-1)
    logged = np.stack([0.6 - 0.3 * x, 0.2 + 0.1 * x, 0.2 + 0.2 * x], axis=-1)
    target = np.stack([x, 0.8 * (1 - x), 0.2 * (1 - x)], axis=-1)
    arm = (rng.random((RUNS, N, 1)) > np.cumsum(logged, axis=-1)).sum(axis=-1)
    reward = (rng.random((RUNS, N)) < np.take_along_axis(mean, arm[..., None], -1)[..., 0]).astype(np.float64)
    # E over x of sum target * mean, in closed form.
    truth = (0.2 / 2 + 0.5 / 3) + 0.8 * (0.6 / 2 - 0.4 / 6) + 0.2 * 0.35 / 2
    return x, arm, reward, logged, target, truth


def test_evaluate__before_each_block__the_caller_may_end_it(rng: np.random.Generator) -> None:
    class Enough(Exception):
        pass

    asked = 0

    def before_block() -> None:
        nonlocal asked
        asked += 1
        if asked == 7:
            raise Enough

    n = 1000
    log = Log(rng.integers(0, 2, n), rng.integers(0, 2, n) * 1.0, np.full((n, 2), 0.5), 2)
    with pytest.raises(Enough):
        evaluate(policies.make("thompson"), log, RewardModel(), before_block=before_block)
    assert asked == 7
    asked = 100
    evaluate(policies.make("thompson"), log, RewardModel(), before_block=before_block)
    assert asked == 200  # a hundred blocks, each learned before the next is asked for


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimator__a_thousand_logs__is_unbiased_and_covers(name: str) -> None:
    x, arm, reward, logged, target, truth = logs(5)
    covered, values = 0, np.empty(RUNS)
    rows = np.arange(N)
    for i in range(RUNS):
        model = (
            ()
            if name in {"ips", "snips"}
            else (np.stack([0.25 + 0.4 * x[i], np.full(N, 0.4), np.full(N, 0.3)], axis=1),)
        )
        found = ESTIMATORS[name](reward[i], logged[i][rows, arm[i]], target[i], *model, actions=arm[i])
        assert found.interval is not None
        covered += found.interval[0] <= truth <= found.interval[1]
        values[i] = found.value
    assert abs(values.mean() - truth) <= 4 * values.std() / RUNS**0.5 + 0.001
    assert 0.93 <= covered / RUNS <= 0.97


def test_estimator__one_probability_a_row__is_the_same_as_all(rng: np.random.Generator) -> None:
    arm = rng.integers(0, 2, 500)
    reward = rng.random(500)
    target = np.tile([0.7, 0.3], (500, 1))
    for estimator in (ips, snips):
        assert estimator(reward, np.full(500, 0.5), target, actions=arm) == estimator(
            reward, np.full(500, 0.5), target[np.arange(500), arm]
        )


def test_estimator__the_policy_itself__is_the_mean(rng: np.random.Generator) -> None:
    reward = rng.random(300)
    same = np.full(300, 0.25)
    for estimator in (ips, snips):
        found = estimator(reward, same, same)
        assert found.value == pytest.approx(reward.mean())
        assert found.standard_error == pytest.approx(reward.std(ddof=1) / 300**0.5)
        assert found.effective_sample_size == pytest.approx(300)
        assert found.warnings == ()


def test_snips__shifted_rewards__shift_the_estimate(rng: np.random.Generator) -> None:
    """What ips lacks: adding a constant to every reward adds it to the estimate, and leaves its
    error."""
    reward, e, target = rng.random(400), rng.uniform(0.2, 0.8, 400), rng.uniform(0.1, 0.9, 400)
    one, two = snips(reward, e, target), snips(reward + 100.0, e, target)
    assert two.value == pytest.approx(one.value + 100.0)
    assert two.standard_error == pytest.approx(one.standard_error)


def test_dr__good_model__narrows__and_bad_model__stays_right(rng: np.random.Generator) -> None:
    n = 4000
    arm = rng.integers(0, 2, n)
    mean = np.stack([rng.random(n), rng.random(n)], axis=1)
    reward = mean[np.arange(n), arm] + rng.normal(0, 0.05, n)
    target = np.tile([0.9, 0.1], (n, 1))
    truth = float((target * mean).sum(axis=1).mean())
    plain = ips(reward, np.full(n, 0.5), target, actions=arm)
    good = dr(reward, np.full(n, 0.5), target, mean, actions=arm)
    bad = dr(reward, np.full(n, 0.5), target, np.full((n, 2), 3.0), actions=arm)
    assert good.standard_error < 0.6 * plain.standard_error
    assert abs(good.value - truth) < 4 * good.standard_error
    assert abs(bad.value - truth) < 4 * bad.standard_error
    assert dr(reward, np.full(n, 0.5), target[:, 0], np.zeros(n)).value == pytest.approx(
        ips(reward, np.full(n, 0.5), target[:, 0]).value
    )


def test_switch_dr__extreme_weights__are_left_to_the_model(rng: np.random.Generator) -> None:
    n = 1000
    propensities = np.full(n, 0.5)
    propensities[:3] = 0.001
    reward, target = rng.random(n), np.full(n, 0.5)
    extreme, cut = ips(reward, propensities, target), switch_dr(reward, propensities, target, np.full(n, 0.5))
    assert any("hangs on it" in said for said in extreme.warnings)
    assert any("effective sample size" in said for said in extreme.warnings)
    assert any("left to the reward model" in said for said in cut.warnings)
    assert cut.standard_error < 0.3 * extreme.standard_error


def test_estimator__what_the_log_can_not_show__is_refused() -> None:
    arm = np.zeros(50, dtype=np.int64)
    with pytest.raises(Unsupported, match="could not have chosen"):
        ips(np.ones(50), np.tile([1.0, 0.0], (50, 1)), np.tile([0.5, 0.5], (50, 1)), actions=arm)
    with pytest.raises(Unsupported, match="none of the logged decisions"):
        snips(np.ones(50), np.full(50, 0.5), np.zeros(50))
    log = Log(arm, np.ones(50), np.ones(50), 2)
    with pytest.raises(Unsupported, match="never shows"):
        evaluate(policies.make("uniform"), log, RewardModel())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], [], []), "rewards"),
        (([1.0], [0.0], [1.0]), "propensities"),
        (([1.0], [1.5], [1.0]), "propensities"),
        (([1.0, float("nan")], [0.5, 0.5], [0.5, 0.5]), "rewards"),
        (([1.0, 1.0], [0.5], [0.5, 0.5]), "propensities"),
        (([1.0], [0.5], [[0.5, 0.5]]), "actions"),
    ],
)
def test_estimator__no_log__says_what_was_expected(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ips(*arguments)


def test_estimator__wrong_propensities__are_warned_of(rng: np.random.Generator) -> None:
    chosen = rng.random(5000) < 0.8
    claimed = np.where(chosen, 0.5, 0.5)  # it was 0.8
    found = ips(chosen.astype(np.float64), claimed, np.where(chosen, 0.9, 0.1))
    assert any("propensities are not those of the choices" in said for said in found.warnings)


def test_fitted_rewards__predict_without_having_seen(rng: np.random.Generator) -> None:
    n = 2000
    x = np.column_stack((np.ones(n), rng.random(n)))
    arm = rng.integers(0, 2, n)
    reward = np.where(arm == 0, x[:, 1], 1 - x[:, 1]) + rng.normal(0, 0.1, n)
    found = fitted_rewards(arm, x, reward, 2)
    assert np.corrcoef(found[:, 0], x[:, 1])[0, 1] > 0.99
    noise = fitted_rewards(arm, x, rng.normal(0, 1, n), 2)
    assert abs(np.corrcoef(noise[np.arange(n), arm], rng.normal(0, 1, n))[0, 1]) < 0.1


@pytest.mark.parametrize("name", policies.names())
def test_target_probabilities__every_policy__learns_from_the_past_alone(name: str, rng: np.random.Generator) -> None:
    n = 600
    x: Array = np.column_stack((np.ones(n), rng.random(n)))
    arm = rng.integers(0, 2, n)
    reward = (rng.random(n) < np.where(arm == 1, 0.8, 0.2)).astype(np.float64)
    log = Log(arm, reward, np.full(n, 0.5), 2, x)
    found = target_probabilities(policies.make(name), log, RewardModel(), floor=0.01)
    assert found.sum(axis=1) == pytest.approx(np.ones(n))
    changed = Log(arm, np.concatenate((reward[:400], 1 - reward[400:])), log.propensities, 2, x)
    again = target_probabilities(policies.make(name), changed, RewardModel(), floor=0.01)
    assert np.array_equal(found[:400], again[:400])
    if name not in {"uniform", "top-two-thompson"}:
        assert found[-50:, 1].mean() > 0.6


def starved(rng: np.random.Generator, rate: float, n: int, share: float) -> tuple[Any, ...]:
    """A log of two arms that both earn `rate`, the second with `share` of the traffic; and that arm
    as the target."""
    arm = (rng.random(n) < share).astype(np.int64)
    reward = (rng.random(n) < rate).astype(np.float64)
    return reward, np.tile([1 - share, share], (n, 1)), np.tile([0.0, 1.0], (n, 1)), arm


@pytest.mark.parametrize(
    ("rate", "n", "share"),
    [(0.001, 2000, 0.5), (0.005, 2000, 0.05), (0.01, 500, 0.5), (0.05, 2000, 0.01), (0.95, 500, 0.05)],
)
def test_estimator__few_outcomes__covers(rate: float, n: int, share: float, rng: np.random.Generator) -> None:
    """The normal interval holds in 4 to 92 % of these."""
    runs = 300
    covered = dict.fromkeys(ESTIMATORS, 0)
    for run in range(runs):
        reward, propensities, target, arm = starved(rng, rate, n, share)
        modelled = fitted_rewards(arm, np.ones((n, 1)), reward, 2, seed=run)
        for name, estimator in ESTIMATORS.items():
            model = () if name in {"ips", "snips"} else (modelled,)
            low, high = estimator(reward, propensities, target, *model, actions=arm).interval or (1.0, 0.0)
            assert 0.0 <= low <= high <= 1.0
            covered[name] += low <= rate <= high
    # 92 % and more, less three standard errors of 300 runs at 95 %.
    assert min(covered.values()) / runs >= 0.92, covered


def test_estimator__many_outcomes__interval_is_the_normal_one(rng: np.random.Generator) -> None:
    reward, propensities, target, arm = starved(rng, 0.3, 20_000, 0.5)
    modelled = fitted_rewards(arm, np.ones((20_000, 1)), reward, 2)
    for name, estimator in ESTIMATORS.items():
        model = () if name in {"ips", "snips"} else (modelled,)
        found = estimator(reward, propensities, target, *model, actions=arm)
        assert found.interval is not None
        assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.96 * found.standard_error, rel=0.03)
        assert found.warnings == ()


def test_ips__no_success__reaches_as_far_as_the_poisson_limit() -> None:
    """500 decisions of weight 2 without a success: the exact 97.5 % limit of a count of 0 is 3.689,
    here times 2 / 500."""
    found = ips(np.zeros(500), np.full(500, 0.5), np.where(np.arange(500) < 250, 1.0, 0.0))
    assert found.interval == pytest.approx((0.0, 3.6889 * 2 / 500), rel=0.01)
    assert found.standard_error == 0.0
    assert found.successes == 0.0
    assert any("0.0 effective successes" in said for said in found.warnings)


def test_estimator__large_sample_with_few_successes__is_warned_of(rng: np.random.Generator) -> None:
    reward = np.zeros(10_000)
    reward[:5] = 1.0
    found = snips(reward, np.full(10_000, 0.5), np.full(10_000, 0.5))
    assert found.effective_sample_size == pytest.approx(10_000)
    assert found.successes == pytest.approx(5.0)
    assert [said for said in found.warnings if "5.0 effective successes" in said]


def test_switch_dr__wrong_model_where_weights_were_cut__bias_is_in_its_interval(rng: np.random.Generator) -> None:
    """All of the target's weights are 20; a model that says .1 where the truth is .6 answers for
    all of them once they are cut."""
    n, covered = 4000, 0
    for _ in range(40):
        reward, propensities, target, arm = starved(rng, 0.6, n, 0.05)
        found = switch_dr(reward, propensities, target, np.full((n, 2), 0.1), actions=arm, threshold=10.0)
        assert found.value == pytest.approx(0.1)
        assert found.interval is not None
        covered += found.interval[0] <= 0.6 <= found.interval[1]
        assert found.interval[1] < 0.9
    assert covered >= 35
    assert any("answers for 100%" in said for said in found.warnings)


def test_switch_dr__little_is_cut__bound_is_that_much_wider(rng: np.random.Generator) -> None:
    """Of the target's choices 1 % have weight 100, and the rewards' range is 1: at most .01 either
    way."""
    n = 5000
    arm = (rng.random(n) < 1e-4).astype(np.int64)
    reward = (rng.random(n) < 0.5).astype(np.float64)
    given = (reward, np.tile([1 - 1e-4, 1e-4], (n, 1)), np.tile([0.99, 0.01], (n, 1)))
    found = switch_dr(*given, np.full((n, 2), 0.5), actions=arm, threshold=10.0)
    assert found.interval is not None
    wider = 2 * 0.005 + 2 * 1.96 * found.standard_error
    assert found.interval[1] - found.interval[0] <= wider * 1.05


def test_estimator__units_that_return__errors_are_of_units(rng: np.random.Generator) -> None:
    """100 units of 20 decisions, each with an arm and a mean of its own: they say as much as 100
    numbers, not as 2,000."""
    told, alone, runs = 0, 0, 200
    for _ in range(runs):
        unit = np.repeat(np.arange(100), 20)
        arm = (rng.random(100) < 0.5).astype(np.int64)[unit]
        reward = (rng.random(2000) < rng.random(100)[unit]).astype(np.float64)
        given = (reward, np.full((2000, 2), 0.5), np.tile([0.0, 1.0], (2000, 1)))
        for units in (unit, None):
            low, high = snips(*given, actions=arm, units=units).interval or (1.0, 0.0)
            if units is None:
                alone += low <= 0.5 <= high
            else:
                told += low <= 0.5 <= high
    assert told / runs >= 0.92
    assert alone / runs <= 0.7


def test_snips__error_of_units__is_the_ratios_by_sums_of_units() -> None:
    """By hand: units a = (1, 1), b = (0,), c = (1, 0), all weights 1: mean 3/5, sums of deviations
    .8, -.6, -.2, their squares 1.04.

    1.04 / 25 * 3/2 = .0624.
    """
    ones = np.ones(5)
    found = snips([1, 1, 0, 1, 0], ones, ones, units=["a", "a", "b", "c", "c"])
    assert found.value == pytest.approx(0.6)
    assert found.standard_error == pytest.approx(0.0624**0.5)
    # Nobody known is nobody else.
    assert snips([1, 1, 0, 1, 0], ones, ones, units=[None] * 5) == snips([1, 1, 0, 1, 0], ones, ones)


def test_estimator__rewards_without_bounds__of_which_few_stand_out__have_no_interval(rng: np.random.Generator) -> None:
    revenue = np.zeros(5000)
    revenue[:3] = 900.0
    half = np.full(5000, 0.5)
    found = ips(revenue, half, half, bounds=(0.0, np.inf))
    assert found.interval is None
    assert any("no interval holds" in said and "effective sample size 5000" in said for said in found.warnings)
    assert ips(revenue, half, half, bounds=(0.0, 1000.0)).interval is not None
    assert ips(np.zeros(5000), half, half, bounds=(0.0, np.inf)).interval is None
    assert ips(rng.exponential(1.0, 5000), half, half, bounds=(0.0, np.inf)).interval is not None
    with pytest.raises(ValueError, match="as bounds say"):
        ips(revenue, half, half, bounds=(0.0, 1.0))


@pytest.mark.parametrize("estimator", [ips, snips])
def test_estimator__log_without_choice__is_refused_though_only_the_chosen_probability_is_known(
    estimator: Callable[..., Estimate], rng: np.random.Generator
) -> None:
    reward = rng.random(200)
    with pytest.raises(Unsupported, match="could not have chosen"):
        estimator(reward, np.ones(200), np.full(200, 0.5))
    # Half of the time both arms had a chance: a quarter of the target's choices could not be seen.
    with pytest.raises(Unsupported, match=r"25\.0%"):
        estimator(reward, np.where(np.arange(200) < 100, 1.0, 0.5), np.full(200, 0.5))
    # What the target would not choose need not have had a chance.
    assert estimator(reward, np.ones(200), np.ones(200)).value == pytest.approx(reward.mean())


def test_estimator__third_arm_that_had_no_chance__is_refused_by_the_weights(rng: np.random.Generator) -> None:
    """Two of three arms are logged, and only the chosen one's probability: the weights' mean is
    2/3."""
    arm = rng.integers(0, 2, 1000)
    with pytest.raises(Unsupported, match=r"weights' mean is 0\.667"):
        snips(rng.random(1000), np.full(1000, 0.5), np.full((1000, 3), 1 / 3), actions=arm)


def test_evaluate__deterministic_policys_log__is_refused(rng: np.random.Generator) -> None:
    arm = np.arange(1000) % 2  # ucb1 without a floor: each choice was certain
    reward = (rng.random(1000) < 0.3).astype(np.float64)
    with pytest.raises(Unsupported, match=r"50\.0% of what the target policy would choose"):
        evaluate(policies.make("uniform"), Log(arm, reward, np.ones(1000), 2), RewardModel())


def test_evaluate__count_of_which_only_ones_were_seen__is_not_taken_for_binary(rng: np.random.Generator) -> None:
    arm = rng.integers(0, 2, 400)
    log = Log(arm, (rng.random(400) < 0.01).astype(np.float64), np.full((400, 2), 0.5), 2)
    assert evaluate(policies.make("uniform"), log, RewardModel("count")).estimates["ips"].interval is None
    assert (
        evaluate(policies.make("uniform"), log, RewardModel("count", maximum=5.0)).estimates["ips"].interval is not None
    )


def test_fitted_rewards__one_units_decisions__are_predicted_from_other_units(rng: np.random.Generator) -> None:
    """Each unit's reward is its own: a model that saw any decision of it would know."""
    unit = np.repeat(np.arange(200), 10)
    own = rng.normal(0.0, 1.0, 200)[unit]
    x = (unit[:, None] == np.arange(200)).astype(np.float64)
    arm = np.zeros(2000, dtype=np.int64)
    knowing = fitted_rewards(arm, x, own, 1)[:, 0]
    blind = fitted_rewards(arm, x, own, 1, units=unit)[:, 0]
    assert np.corrcoef(knowing, own)[0, 1] > 0.9
    assert abs(np.corrcoef(blind, own)[0, 1]) < 0.3


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)
