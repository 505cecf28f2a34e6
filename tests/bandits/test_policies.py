"""Every registered policy: its propensities are true, mirror, and sum to one."""

import numpy as np
import pytest

from bandits import policies
from bandits.policies.allocation import allocate, with_burn_in, with_floor
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics

STATISTICS = ArmStatistics(np.array([40.0, 60.0, 25.0]), np.array([0.5, 0.55, 0.6]), np.array([10.0, 14.85, 6.0]))
REWARDS = [
    RewardModel("binary"),
    RewardModel("continuous", minimum=0.0, maximum=1.0),
    RewardModel("continuous"),
    RewardModel("count", maximum=10.0),
]


@pytest.fixture(params=[name for name in policies.names() if name not in policies.contextual_names()])
def policy(request: pytest.FixtureRequest) -> policies.Policy:
    return policies.make(request.param)


@pytest.mark.parametrize("reward", REWARDS, ids=lambda reward: f"{reward.kind}-{reward.maximum}")
def test_policy__propensities__are_those_of_its_choices(policy: policies.Policy, reward: RewardModel) -> None:
    runs = 40_000
    tiled = ArmStatistics(*(np.tile(part, (runs, 1)) for part in (STATISTICS.count, STATISTICS.mean, STATISTICS.m2)))
    chosen = policy.choose(tiled, reward, np.random.default_rng(1))
    share = np.bincount(chosen, minlength=3) / runs
    found = policy.propensities(STATISTICS, reward)
    assert found.sum() == pytest.approx(1.0, abs=1e-9)
    assert np.all(np.abs(found - share) <= 4 * np.sqrt(found * (1 - found) / runs) + 1e-9)


def test_policy__nothing_seen__is_even(policy: policies.Policy) -> None:
    for reward in REWARDS:
        assert policy.propensities(ArmStatistics.zeros(4), reward) == pytest.approx(np.full(4, 0.25), abs=1e-9)


def test_policy__minimize_of_the_negated_metric__is_maximize(policy: policies.Policy) -> None:
    for kind, low, high in (("binary", None, None), ("continuous", 0.0, 1.0), ("continuous", None, None)):
        up = RewardModel(kind, "maximize", low, high)  # type: ignore[arg-type]  # of a tuple's str
        down = RewardModel(kind, "minimize", low, high)  # type: ignore[arg-type]
        mirrored = ArmStatistics(STATISTICS.count, 1.0 - STATISTICS.mean, STATISTICS.m2)
        assert policy.propensities(mirrored, down) == pytest.approx(policy.propensities(STATISTICS, up), abs=1e-9)


def test_policy__same_seed__same_choices(policy: policies.Policy) -> None:
    tiled = ArmStatistics(*(np.tile(part, (500, 1)) for part in (STATISTICS.count, STATISTICS.mean, STATISTICS.m2)))
    one, two = (policy.choose(tiled, REWARDS[0], np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one, two)


def regret(name: str, means: list[float], horizon: int, runs: int, seed: int) -> tuple[float, float]:
    """(mean, standard error) of the cumulative pseudo-regret."""
    generator = np.random.default_rng(seed)
    policy, truth = policies.make(name), np.array(means)
    count, total = np.zeros((runs, len(means))), np.zeros((runs, len(means)))
    lost, rows = np.zeros(runs), np.arange(runs)
    for _ in range(horizon):
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        arm = policy.choose(ArmStatistics(count, mean, count), RewardModel(), generator)
        total[rows, arm] += generator.random(runs) < truth[arm]
        count[rows, arm] += 1.0
        lost += truth.max() - truth[arm]
    return float(lost.mean()), float(lost.std() / runs**0.5)


@pytest.mark.parametrize(("name", "reference", "error"), [("thompson", 9.14, 0.11), ("ucb1", 64.5, 0.11)])
def test_policy__regret_on_two_arms__is_the_reference(name: str, reference: float, error: float) -> None:
    mean, own_error = regret(name, [0.9, 0.8], horizon=5000, runs=300, seed=11)
    assert abs(mean - reference) <= 4 * (error**2 + own_error**2) ** 0.5


def test_ucb1__own_pulls_since_the_snapshot__spread_the_traffic() -> None:
    policy = policies.make("ucb1")
    held = ArmStatistics(np.array([100.0, 100.0]), np.array([0.50, 0.52]), np.array([25.0, 25.0]))
    pulls = np.zeros(2)
    for _ in range(400):
        pulls[policy.propensities(held, RewardModel(), pulls).argmax()] += 1
    assert pulls.min() > 100  # without counting, all 400 would herd onto the second arm


def test_allocate__floor__keeps_order_and_least_share() -> None:
    floored = with_floor(np.array([0.0, 0.3, 0.7]), 0.1)
    assert floored == pytest.approx([0.1, 0.31, 0.59])
    with pytest.raises(ValueError, match="floor"):
        with_floor(np.array([0.5, 0.5]), 0.6)


def test_allocate__burn_in__gives_young_arms_an_even_share() -> None:
    assert with_burn_in(np.array([0.9, 0.1, 0.0]), np.array([200.0, 200.0, 5.0]), 100) == pytest.approx(
        [0.6, 0.2 / 3, 1 / 3]
    )
    assert with_burn_in(np.array([0.9, 0.1]), np.array([5.0, 5.0]), 100) == pytest.approx([0.5, 0.5])
    assert with_burn_in(np.array([0.0, 1.0]), np.array([200.0, 5.0]), 100) == pytest.approx([0.5, 0.5])


def test_allocate__disabled_arm__gets_exactly_nothing() -> None:
    shares = allocate(
        policies.make("thompson"),
        STATISTICS,
        RewardModel(),
        floor=0.05,
        burn_in=10,
        enabled=np.array([True, False, True]),
    )
    assert shares[1] == 0.0
    assert shares.sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no arm"):
        allocate(policies.make("uniform"), STATISTICS, RewardModel(), enabled=np.zeros(3, dtype=np.bool_))


def test_make__unknown_name_or_parameter__says_what_is_expected() -> None:
    with pytest.raises(ValueError, match="lin-ucb, logistic-thompson, softmax, thompson"):
        policies.make("greedy")
    with pytest.raises(ValueError, match="parameters of thompson"):
        policies.make("thompson", colour="red")
