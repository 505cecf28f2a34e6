"""Off-policy evaluation: unbiased, with intervals that cover as often as they say, and honest about what a log can't answer."""

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
    """RUNS logs of N decisions: three arms whose means, logged and target probabilities depend on a feature."""
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
    """What ips lacks: adding a constant to every reward adds it to the estimate, and leaves its error."""
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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)
