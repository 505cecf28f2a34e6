"""The simulator: seeded, right against references, and fast enough to be believed only because it
is checked."""

from typing import Any

import numpy as np
import pytest

from bandits import policies
from bandits.inference.evidence import Bucket, empty
from bandits.inference.log_factors import averaged
from bandits.reward import RewardModel
from bandits.simulation import (
    bernoulli,
    contextual_linear,
    contextual_logistic,
    normal,
    plan,
    poisson,
    retiring,
    simulate,
    simulate_promotion,
)
from bandits.simulation.design_factors import counted_log_factors, single_log_factors
from bandits.simulation.environments import Environment, Poisson

COEFFICIENTS = [[0.0, 1.0, 0.0], [0.5, 0.0, 0.0], [1.0, -1.0, 0.0]]
TEN = [0.1] + [0.05] * 3 + [0.02] * 3 + [0.01] * 3


def agrees(found: Any, reference: float, reference_error: float) -> bool:
    """Within 4 sqrt(SE_ref^2 + SE_new^2) of a reference?"""
    error = float(np.std(found, ddof=1) / len(found) ** 0.5)
    return abs(float(np.mean(found)) - reference) <= 4 * (reference_error**2 + error**2) ** 0.5


@pytest.mark.parametrize(
    ("name", "reference", "error"), [("thompson", 9.14, 0.11), ("kl-ucb", 12.87, 0.09), ("ucb1", 64.5, 0.11)]
)
def test_simulate__two_arms__regret_is_the_reference(name: str, reference: float, error: float) -> None:
    assert agrees(simulate(name, bernoulli([0.9, 0.8]), 5000, 400, 11).final, reference, error)


def test_simulate__ten_arms__regret_is_the_reference() -> None:
    assert agrees(simulate("kl-ucb", bernoulli(TEN), 20_000, 60, 12).final, 132.8, 1.05)
    found = simulate("ucb1", bernoulli(TEN), 20_000, 60, 12).final.mean()
    assert found == pytest.approx(843.5, rel=0.04)


def test_simulate__gaussian_arms__regret_is_the_reference() -> None:
    assert agrees(simulate("thompson", normal([1, 0.5, 0, 0, 0], 1.0), 5000, 400, 13).final, 63.8, 1.07)


def test_simulate__gaussian_arms__scale_and_origin_change_nothing() -> None:
    """The prior is scaled to the data: rewards in other units are the same problem."""
    base = simulate("thompson", normal([1, 0.5, 0, 0, 0], 1.0), 2000, 100, 3).final.mean()
    far = simulate("thompson", normal([1010, 1005, 1000, 1000, 1000], 10.0), 2000, 100, 3).final.mean() / 10
    assert far == pytest.approx(base, rel=0.1)


@pytest.mark.parametrize("name", policies.names())
def test_simulate__every_policy__repeats_and_learns(name: str) -> None:
    contextual = name in policies.contextual_names()
    world = contextual_logistic(np.array(COEFFICIENTS) * 4) if contextual else bernoulli([0.8, 0.3, 0.3])
    one, two = (simulate(name, world, 600, 20, 5) for _ in range(2))
    assert np.array_equal(one.regret, two.regret)
    assert one.regret.shape == (20, 600)
    assert one.pulls.sum(axis=1) == pytest.approx(np.full(20, 600.0))
    assert np.all(np.diff(one.regret, axis=1) >= -1e-12)
    even = simulate("uniform", world, 600, 20, 5)
    if name != "uniform":
        assert one.final.mean() < 0.8 * even.final.mean()


@pytest.mark.parametrize("name", policies.names())
def test_simulate__batch_and_delay__stay_good(name: str) -> None:
    contextual = name in policies.contextual_names()
    world = contextual_logistic(np.array(COEFFICIENTS) * 4) if contextual else bernoulli([0.8, 0.3, 0.3])
    even = simulate("uniform", world, 1000, 20, 6).final.mean()
    late = simulate(name, world, 1000, 20, 6, batch=20, delay=30).final.mean()
    if name != "uniform":
        assert late < 0.85 * even


def test_simulate__counts__learn_whatever_the_rate() -> None:
    for rates in ([2.0, 2.5, 3.0], [0.02, 0.05, 0.2], [20.0, 25.0, 30.0]):
        found = simulate("thompson", poisson(rates), 2000, 60, 8)
        assert found.pulls[:, 2].mean() > 0.85 * 2000


def test_simulate__world_that_changes__memory_follows() -> None:
    world = bernoulli([0.9, 0.5], changes=[(2000, [0.4, 0.8])])
    forever = simulate("thompson", world, 4000, 40, 9).final.mean()
    discounted = simulate("thompson", world, 4000, 40, 9, params={"discount": 0.99}).final.mean()
    windowed = simulate("ucb-tuned", world, 4000, 40, 9, params={"sliding_window": 300}).final.mean()
    assert discounted < 0.4 * forever
    assert windowed < 0.6 * forever


def test_simulate__drift_of_all_arms_alike__changes_no_gap() -> None:
    world = bernoulli([0.5, 0.4], drift=(500, 0.2))
    found = simulate("uniform", world, 1000, 20, 10)
    assert found.final == pytest.approx(0.1 * found.pulls[:, 1])


@pytest.mark.parametrize("name", ["lin-ucb", "lin-thompson", "logistic-thompson"])
def test_simulate__features_decide__contextual_policy_earns_what_others_can_not(name: str) -> None:
    world = contextual_logistic([[-2.0, 4.0], [2.0, -4.0]])
    plain = simulate("thompson", world, 2000, 30, 4).final.mean()
    found = simulate(name, world, 2000, 30, 4, params={"alpha": 0.4}).final.mean()
    assert found < 0.4 * plain


def test_simulate__linear_rewards__discount_forgets() -> None:
    found = simulate("lin-ucb", contextual_linear(COEFFICIENTS), 1000, 20, 4, params={"discount": 0.995})
    assert found.final.mean() < 0.5 * simulate("uniform", contextual_linear(COEFFICIENTS), 1000, 20, 4).final.mean()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("thompson", bernoulli([0.5, 0.4]), 0, 1, 1), "horizon"),
        (("thompson", bernoulli([0.5, 0.4]), 10, 0, 1), "runs"),
        (("lin-ucb", bernoulli([0.5, 0.4]), 10, 1, 1), "needs an environment with features"),
        (("magic", bernoulli([0.5, 0.4]), 10, 1, 1), "policy is 'magic'"),
    ],
)
def test_simulate__wrong_arguments__say_what_was_expected(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        simulate(*arguments)


def test_environments__wrong_means__say_what_was_expected() -> None:
    for make, said in (
        (lambda: bernoulli([0.5, 1.5]), r"means\[1\]"),
        (lambda: bernoulli([]), "empty"),
        (lambda: bernoulli([0.5, 0.4], changes=[(10, [0.5])]), "2 were expected"),
        (lambda: bernoulli([0.5, 0.4], drift=(1, 0.1)), "period"),
        (lambda: normal([1, 0], 0.0), "stds"),
        (lambda: contextual_linear([]), "coefficients"),
        (lambda: retiring(0), "arms"),
    ):
        with pytest.raises(ValueError, match=said):
            make()


def test_promotion__five_against_six_percent__decides_as_referenced() -> None:
    found = simulate_promotion("uniform", bernoulli([0.05, 0.06]), 50_000, 300, 21)
    assert (found.promoted == 1).mean() >= 0.92
    assert (found.promoted == 0).mean() <= 0.05
    assert np.median(np.where(found.promoted >= 0, found.pulls, 50_000)) <= 21_000
    assert found.correct.mean() == (found.promoted == 1).mean()


def test_promotion__thompson_on_a_large_difference__is_soon_enough() -> None:
    found = simulate_promotion("thompson", bernoulli([0.6, 0.7]), 5000, 300, 22, floor=0.05)
    assert abs((found.promoted == 1).mean() - 0.85) <= 4 * (0.85 * 0.15 / 300) ** 0.5
    assert np.median(found.pulls[found.promoted == 1]) == pytest.approx(2300, rel=0.15)


def test_promotion__equal_arms__seldom_ends_by_the_rule__and_often_by_looking_at_p_best() -> None:
    equal = bernoulli([0.05, 0.05])
    assert (simulate_promotion("thompson", equal, 5000, 200, 23).promoted >= 0).mean() <= 0.05
    watched = simulate_promotion("thompson", equal, 5000, 100, 23, rule="probability-best")
    assert (watched.promoted >= 0).mean() > 0.25


RISING = bernoulli([0.2, 0.2], changes=[(100 * k, [0.2 + 0.5 * k / 60] * 2) for k in range(1, 60)])


@pytest.mark.parametrize("rates", [[0.9, 0.3], [0.9, 0.1]])
@pytest.mark.parametrize("means", [RISING, bernoulli([0.05] * 2), bernoulli([0.97] * 2)])
def test_promotion__equal_arms_answered_at_different_rates__seldom_ends(means: Environment, rates: list[float]) -> None:
    found = simulate_promotion("thompson", means, 3000, 100, 25, answered=rates)
    assert (found.promoted >= 0).mean() <= 0.05 + 4 * (0.05 * 0.95 / 100) ** 0.5
    # By the design-based rule, which takes "drawn" for "drawn and answered".
    assert (simulate_promotion("thompson", means, 3000, 20, 25, answered=rates, rule="design").promoted >= 0).any()


def test_promotion__better_arm_is_seldom_answered__is_promoted_all_the_same() -> None:
    found = simulate_promotion("uniform", bernoulli([0.3, 0.5]), 4000, 50, 26, answered=[0.9, 0.3])
    assert (found.promoted == 1).mean() >= 0.95


def test_promotion__bounded_rewards__go_by_the_design_based_rule() -> None:
    counts = _Counts((1.0, 2.0))
    found = simulate_promotion("uniform", counts, 3000, 10, 27)
    assert (found.promoted == 1).all()
    with pytest.raises(ValueError, match="silence means nothing"):
        simulate_promotion("uniform", counts, 3000, 10, 27, answered=[0.9, 0.9])
    with pytest.raises(ValueError, match="rewards of 0 and 1"):
        simulate_promotion("uniform", counts, 3000, 10, 27, rule="conditional")


class _Counts(Poisson):
    """Counts that are cut off at 8."""

    @property
    def reward(self) -> RewardModel:
        return RewardModel("count", maximum=8.0)


@pytest.mark.parametrize("name", ["ucb1", "kl-ucb", "epsilon-greedy", "softmax", "bayes-ucb", "top-two-thompson"])
def test_promotion__every_kind_of_policy__promotes_the_better(name: str) -> None:
    found = simulate_promotion(name, bernoulli([0.3, 0.6]), 3000, 30, 24, floor=0.1)
    assert (found.promoted == 1).mean() > 0.9


def test_promotion__evidence_of_many_at_once__is_the_evidence_of_each() -> None:
    rng = np.random.default_rng(1)
    runs, n, arms = 6, 80, 3
    propensities = rng.dirichlet(np.ones(arms) * 3, runs)
    arm = np.stack([rng.choice(arms, n, p=p) for p in propensities])
    outcome = (rng.random((runs, n)) < 0.4).astype(np.float64)
    pooled = np.full(runs, 0.5)
    ones = np.stack([np.bincount(arm[i], weights=outcome[i], minlength=arms) for i in range(runs)])
    count = np.stack([np.bincount(arm[i], minlength=arms) for i in range(runs)])
    counted = averaged(counted_log_factors(ones, count - ones, propensities, pooled))
    single = averaged(sum(single_log_factors(arm[:, t], outcome[:, t], propensities, pooled) for t in range(n)))
    for i in range(runs):
        bucket = Bucket(arm[i], outcome[i], np.tile(propensities[i], (n, 1)), np.zeros(n, dtype=np.int64))
        evidence = empty("design", arms).observe(bucket)
        assert counted[i] == pytest.approx(evidence.e_values(), rel=1e-6)
        assert single[i] == pytest.approx(counted[i], rel=1e-9)


def test_promotion__wrong_arguments__say_what_was_expected() -> None:
    pair = bernoulli([0.5, 0.4])
    for arguments, said in (
        (("lin-ucb", pair, 10, 1, 1), "needs features"),
        (("thompson", normal([1, 0]), 10, 1, 1), "rewards with bounds"),
        (("thompson", bernoulli([0.5]), 10, 1, 1), "two arms"),
    ):
        with pytest.raises(ValueError, match=said):
            simulate_promotion(*arguments)
    with pytest.raises(ValueError, match="update_every"):
        simulate_promotion("thompson", pair, 100, 1, 1, check_every=30, update_every=50)
    for answered in ([0.5], [0.5, 1.5]):
        with pytest.raises(ValueError, match="answered"):
            simulate_promotion("thompson", pair, 100, 1, 1, answered=answered)
    with pytest.raises(ValueError, match="rule"):
        simulate_promotion("thompson", pair, 100, 1, 1, rule="p-value")  # type: ignore[arg-type]  # what is refused


def test_plan__larger_difference__takes_less_time() -> None:
    small, large = (plan("uniform", [0.1, mean], 20_000, runs=60) for mean in (0.12, 0.2))
    assert large.pulls is not None
    assert large.pulls < 3000
    assert small.pulls is None or small.pulls > 2 * large.pulls
    assert large.median_interval[0] <= large.pulls <= (large.median_interval[1] or 0)
    assert large.cost_interval[0] < large.cost < large.cost_interval[1]
    none = plan("uniform", [0.1, 0.1], 2000, runs=20)
    assert none.pulls is None
    assert none.cost == 0.0


def test_plan__burn_in_and_min_rewards__are_in_its_cost_and_its_time() -> None:
    """Each arm needs its hundred rewards, from an even split, whatever the evidence says: the worse
    one costs 0.8 each time."""
    found = plan("thompson", [0.1, 0.9], 5000, runs=20)
    assert found.promoted == 1.0
    assert found.pulls is not None
    assert found.pulls >= 190
    assert found.cost >= 75
    bare = plan("thompson", [0.1, 0.9], 5000, runs=20, burn_in=0, min_rewards=0)
    assert bare.cost < 30
    many = plan("ucb1", [0.1, 0.9], 5000, runs=5, burn_in=300, min_rewards=400)
    assert many.pulls is None or many.pulls >= 800


def test_plan__floor_not_given__scales_with_the_arms__and_a_policy_that_forgets_is_refused() -> None:
    twelve = [0.9, *[0.1] * 11]
    found, scaled, fixed = (
        plan("thompson", twelve, 600, runs=2, burn_in=10, floor=floor) for floor in (None, 0.1 / 12, 0.05)
    )
    assert found == scaled
    assert found.cost < fixed.cost
    with pytest.raises(ValueError, match="forgets"):
        plan("thompson", [0.1, 0.2], 1000, runs=2, params={"discount": 0.99})


def test_poisson__dispersion__is_the_variance_over_the_rate() -> None:
    rng = np.random.default_rng(3)
    world = poisson([2.0, 5.0], dispersion=4.0)
    drawn = world.draw(rng, np.full(200_000, 5.0), np.ones(200_000, dtype=np.int64))
    assert drawn.mean() == pytest.approx(5.0, rel=0.01)
    assert drawn.var() == pytest.approx(20.0, rel=0.03)
    with pytest.raises(ValueError, match="dispersion"):
        poisson([1.0], dispersion=0.5)
