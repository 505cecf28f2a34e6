"""The models of contextual policies: one value for the service, the evaluation of a log and
simulation, which give the same numbers."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bandits import policies
from bandits.arm_models import ArmModels
from bandits.ope import Log, target_probabilities
from bandits.policies.allocation import allocate_in_context
from bandits.reward import Direction, RewardModel
from bandits.simulation.learners import learner_of
from bandits.statistics import Array

ARMS, FEATURES = 3, 3
every_contextual = pytest.mark.parametrize("name", policies.contextual_names())
memories = pytest.mark.parametrize("params", [{}, {"discount": 0.95}], ids=["all", "discount"])


def decisions(seed: int, n: int = 60) -> tuple[NDArray[np.int64], Array, Array]:
    rng = np.random.default_rng(seed)
    x = np.column_stack((np.ones(n), rng.random((n, FEATURES - 1))))
    return rng.integers(0, ARMS, n), x, (rng.random(n) < 0.4).astype(np.float64)


# A late reward meets a logistic model that faded meanwhile, which is another cut.
SAME_CUTS = [
    (name, params, delay)
    for name in policies.contextual_names()
    for params in ({}, {"discount": 0.95})
    for delay in (0, 4)
    if not (delay and params and policies.make(name).model == "logistic")
]


@pytest.mark.parametrize(("name", "params", "delay"), SAME_CUTS)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_models__learned_by_the_service_and_in_simulation__believe_the_same(
    name: str, params: dict[str, Any], delay: int, direction: Direction
) -> None:
    """Decision by decision, the rewards of the last `delay` still out."""
    policy, reward = policies.make_contextual(name, **params), RewardModel("binary", direction)
    arm, x, y = decisions(1)
    n = len(arm)
    served, simulated = ArmModels(policy, reward, ARMS, FEATURES), learner_of(policy, reward, 2, ARMS, FEATURES)
    for step in range(n):
        if step > delay:
            at = step - 1 - delay
            simulated.learn(np.full(2, arm[at]), np.full(2, y[at]), np.tile(x[at], (2, 1)), delay, None)
        simulated.look()
        simulated.pulled(np.full(2, arm[step]), np.tile(x[step], (2, 1)))
        simulated.pass_time()
    at = n - 1 - delay
    simulated.learn(np.full(2, arm[at]), np.full(2, y[at]), np.tile(x[at], (2, 1)), delay, None)
    simulated.look()
    if policy.model == "linear":
        answered = np.arange(n) < n - delay
        served.learn(arm, x, y, answered)
    else:
        # A logistic model's Gaussians depend on how rows are cut: so as simulation cuts them.
        for row in range(n - delay):
            served.learn(arm[[row]], x[[row]], y[[row]])
    belief = served.belief()
    requests = decisions(2)[1]
    mean, deviation = belief.values(requests)
    for row, one in enumerate(requests):
        if row % 20 == 0:
            weights = simulated.propensities(np.tile(one, (2, 1)))
            assert weights[0] == pytest.approx(policy.propensities(mean[[row]], deviation[[row]])[0], abs=1e-6)
            assert weights[0] == pytest.approx(weights[1], abs=1e-12)


@every_contextual
@memories
def test_models__learned_by_the_service_and_in_evaluation__give_the_same_probabilities(
    name: str, params: dict[str, Any]
) -> None:
    policy, reward = policies.make_contextual(name, **params), RewardModel("binary")
    arm, x, y = decisions(3)
    log = Log(arm, y, np.full((len(arm), ARMS), 1 / ARMS), ARMS, x)
    evaluated = target_probabilities(policy, log, reward, floor=0.05, blocks=6)
    models = ArmModels(policy, reward, ARMS, FEATURES)
    for rows in np.array_split(np.arange(len(arm)), 6):
        learned = np.bincount(arm[: rows[0]], minlength=ARMS).astype(np.float64)
        served = allocate_in_context(policy, models.belief(), x[rows], learned, floor=0.05)
        assert evaluated[rows] == pytest.approx(served, abs=1e-12)
        models.learn(arm[rows], x[rows], y[rows])


@every_contextual
def test_models__arms_that_are_new__have_seen_nothing(name: str) -> None:
    policy, reward = policies.make_contextual(name), RewardModel("binary")
    arm, x, y = decisions(4)
    models = ArmModels(policy, reward, ARMS, FEATURES)
    models.learn(arm, x, y)
    models.forget(np.array([False, True, False]))
    fresh, known = ArmModels(policy, reward, ARMS, FEATURES), ArmModels(policy, reward, ARMS, FEATURES)
    others = arm != 1
    known.learn(arm[others], x[others], y[others])
    deviation = models.belief().values(x)[1]
    # Its uncertainty is that of an arm which never was pulled, the others' theirs.
    assert deviation[:, 1] == pytest.approx(fresh.belief().values(x)[1][:, 1])
    assert deviation[:, [0, 2]] == pytest.approx(known.belief().values(x)[1][:, [0, 2]])


def test_models__belief__stays_what_it_was_while_the_models_learn_on() -> None:
    for name in policies.contextual_names():
        models = ArmModels(policies.make_contextual(name), RewardModel("binary"), ARMS, FEATURES, runs=2)
        before = models.belief()
        mean = before.mean.copy()
        models.learn_each(np.array([0, 1]), np.ones((2, FEATURES)), np.array([1.0, 0.0]))
        assert (before.mean == mean).all()


def test_models__sliding_window__is_refused() -> None:
    policy = policies.make_contextual("lin-ucb", sliding_window=10)
    with pytest.raises(ValueError, match="discount"):
        ArmModels(policy, RewardModel(), ARMS, FEATURES)
