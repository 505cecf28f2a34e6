"""How long an experiment would take, and what it would cost, by policy: from simulation of the very
rule that promotes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bandits import checks
from bandits.policies.allocation import default_floor
from bandits.statistics import Array

from .environments import bernoulli
from .promotion import simulate_promotion
from .regret import policy_of

CHECKS = 400
"""How often a simulated experiment is looked at: often enough that a plan's days are not coarse."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to expect of one policy. Pulls are decisions; cost is reward lost against always serving
    the best arm.

    `promoted`: share of runs that promoted within the horizon; `correct`: that promoted the best
    arm. `pulls`: median, `usual`: from the 10th to the 90th percentile, None where so few runs
    promoted that it is beyond the horizon; `median_interval`: the median's own 95 % interval (by
    order statistics), None where it has no end. `cost`: mean and 95 % interval, until promotion or
    the horizon.
    """

    policy: str
    runs: int
    horizon: int
    promoted: float
    correct: float
    pulls: float | None
    median_interval: tuple[float, float | None]
    usual: tuple[float | None, float | None]
    cost: float
    cost_interval: tuple[float, float]


def plan(
    policy: str,
    means: Sequence[float],
    horizon: int,
    *,
    runs: int = 200,
    seed: int = 1,
    params: Mapping[str, Any] | None = None,
    alpha: float = 0.05,
    floor: float | None = None,
    burn_in: int = 100,
    min_rewards: int = 100,
) -> Plan:
    """Simulate `runs` experiments of binary arms with these means, each of at most `horizon`
    decisions, as the platform would run them.

    Burn-in and `min_rewards` are an experiment's defaults, and so is the floor where None: without
    them the cost would be told too small. Raises ValueError, for a policy that forgets too: its
    promotion is not simulated.
    """
    checks.whole("runs", runs, 2)
    if policy_of(policy, params).memory.forgets:
        raise ValueError(f"{policy} with {dict(params or {})} forgets: a plan is for policies that remember")
    found = simulate_promotion(
        policy,
        bernoulli(means),
        horizon,
        runs,
        seed,
        params=params,
        alpha=alpha,
        floor=default_floor(len(means)) if floor is None else floor,
        burn_in=burn_in,
        min_rewards=min_rewards,
        check_every=max(10, -(-horizon // CHECKS)),
    )
    done = found.promoted >= 0
    # A run that did not promote took longer than the horizon, however long.
    pulls: Array = np.sort(np.where(done, found.pulls, np.inf))

    def ranked(share: float) -> float | None:
        value = float(pulls[min(int(share * runs), runs - 1)])
        return value if np.isfinite(value) else None

    low, high = (int(stats.binom.ppf(level, runs, 0.5)) for level in (0.025, 0.975))
    first, last = float(pulls[max(low - 1, 0)]), float(pulls[min(high, runs - 1)])
    mean, error = float(found.regret.mean()), float(found.regret.std(ddof=1) / np.sqrt(runs))
    return Plan(
        policy,
        runs,
        horizon,
        float(done.mean()),
        float((done & found.correct).mean()),
        ranked(0.5),
        (first if np.isfinite(first) else float(horizon), last if np.isfinite(last) else None),
        (ranked(0.1), ranked(0.9)),
        mean,
        (mean - 1.96 * error, mean + 1.96 * error),
    )
