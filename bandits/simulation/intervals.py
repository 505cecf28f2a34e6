"""How often the intervals of arms' means are right: many experiments side by side, looked at as
people look at them.

Between two checks an experiment serves from one snapshot, as the platform does: the probabilities
follow from what was learned until the last check, with floor and burn-in. The intervals are the
ones that results show (bandits.inference.intervals). What they are to cover is the mean of what the
arm served: its mean where it has one, else the average of its means over the requests that it got.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.inference.intervals import interval, watched_interval
from bandits.policies import ContextualPolicy, Policy
from bandits.policies.allocation import with_burn_in, with_floor
from bandits.policies.index import draw
from bandits.statistics import ArmStatistics, Array

from .environments import Environment
from .learners import learner_of
from .regret import policy_of


@dataclass(frozen=True, slots=True)
class Coverage:
    """`covered` (runs, arms): did the interval at the horizon hold the arm's mean? `ever_missed`
    (runs, arms): did the watched one

    at any check not? `pulls` (runs, arms). An arm that was never pulled has the interval of all
    that is possible, which holds.
    """

    covered: NDArray[np.bool_]
    ever_missed: NDArray[np.bool_]
    pulls: Array


def simulate_intervals(
    policy: str | Policy | ContextualPolicy,
    environment: Environment,
    horizon: int,
    runs: int,
    seed: int,
    alpha: float = 0.05,
    check_every: int = 100,
    floor: float = 0.01,
    burn_in: int = 100,
    params: Mapping[str, Any] | None = None,
) -> Coverage:
    """`runs` experiments of `horizon` pulls, looked at and learned from each `check_every` pulls,
    and at the end.

    The same arguments give the same results. Raises ValueError.
    """
    for name, value in (("horizon", horizon), ("runs", runs), ("check_every", check_every)):
        checks.whole(name, value, 1)
    checks.whole("burn_in", burn_in, 0)
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    arms = environment.arms
    checks.number("floor", floor, 0.0, 1.0 / arms)
    rng = np.random.default_rng(seed)
    learner = learner_of(policy_of(policy, params), environment.reward, runs, arms, environment.features)
    world = environment.begin(rng, runs)
    rows = np.arange(runs)
    # Sums of deviations from the means that were served: a mean far from 0 loses nothing to them.
    count, mean, m2, served = (np.zeros((runs, arms)) for _ in range(4))
    ever_missed = np.zeros((runs, arms), dtype=np.bool_)
    waiting: list[tuple[int, NDArray[np.int64], Array, Array | None]] = []
    known_count = count.copy()
    last_weights: Array | None = None
    shares = count
    for t in range(horizon):
        now = world.step(t)
        if now.renewed is not None:
            raise ValueError(
                "arms that are replaced have no mean to cover: an environment whose arms stay was expected"
            )
        if t % check_every == 0:
            for at, arm, reward, x in waiting:
                learner.learn(arm, reward, x, t - 1 - at, None)
            waiting.clear()
            learner.look()
            known_count = count.copy()
            if t:
                ever_missed |= ~_holds(
                    watched_interval(ArmStatistics(count, mean, m2), environment.reward, alpha), served
                )
        weights = learner.propensities(now.x)
        if weights is not last_weights or t % check_every == 0:  # most policies change them at a check alone
            last_weights, shares = weights, with_floor(with_burn_in(weights, known_count, burn_in), floor)
        arm = draw(shares, rng)
        learner.pulled(arm, now.x)
        means = np.broadcast_to(now.means, count.shape)
        expected = means[rows, arm]
        reward = environment.draw(rng, expected, arm)
        here = (rows, arm)
        count[here] += 1.0
        deviation = reward - mean[here]
        mean[here] += deviation / count[here]
        m2[here] += deviation * (reward - mean[here])
        served[here] += (expected - served[here]) / count[here]
        waiting.append((t, arm, reward, now.x))
        learner.pass_time()
    statistics = ArmStatistics(count, mean, m2)
    ever_missed |= ~_holds(watched_interval(statistics, environment.reward, alpha), served)
    covered = _holds(interval(statistics, environment.reward, alpha), served)
    return Coverage(covered | (count == 0), ever_missed & (count > 0), count)


def _holds(ends: tuple[Array, Array], mean: Array) -> NDArray[np.bool_]:
    low, high = ends
    # Sums of a million terms are rounded: an end at a bound is no miss of a mean at it.
    slack = 1e-12 * np.maximum(1.0, np.abs(mean))
    held: NDArray[np.bool_] = (low <= mean + slack) & (mean <= high + slack)
    return held
