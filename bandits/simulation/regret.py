"""What a policy loses against always playing the best arm: many seeded runs, simulated side by
side."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandits import checks
from bandits.policies import ContextualPolicy, Policy, make
from bandits.statistics import Array

from .environments import Environment
from .learners import Arms, learner_of


@dataclass(frozen=True, slots=True)
class Simulation:
    """`regret` (runs, horizon): cumulative pseudo-regret after each pull, in reward units. `pulls`
    (runs, arms)."""

    regret: Array
    pulls: Array

    @property
    def final(self) -> Array:
        """The regret at the horizon, (runs,)."""
        last: Array = self.regret[:, -1]
        return last


def policy_of(policy: str | Policy | ContextualPolicy, params: Mapping[str, Any] | None) -> Policy | ContextualPolicy:
    """A policy by its name and parameters, or one that was made already. Raises ValueError."""
    if isinstance(policy, str):
        made: Policy | ContextualPolicy = make(policy, **(params or {}))
        return made
    if params:
        raise ValueError("params go with a policy's name: this one is made already")
    return policy


def simulate(
    policy: str | Policy | ContextualPolicy,
    environment: Environment,
    horizon: int,
    runs: int,
    seed: int,
    params: Mapping[str, Any] | None = None,
    batch: int = 1,
    delay: int = 0,
) -> Simulation:
    """`runs` runs of `horizon` pulls.

    Choices follow what was known at the last multiple of `batch`, and rewards are known `delay`
    pulls late.

    The same arguments give the same numbers. Raises ValueError.
    """
    checks.whole("horizon", horizon, 1)
    checks.whole("runs", runs, 1)
    checks.whole("batch", batch, 1)
    checks.whole("delay", delay, 0)
    chosen_policy = policy_of(policy, params)
    rng = np.random.default_rng(seed)
    learner = learner_of(chosen_policy, environment.reward, runs, environment.arms, environment.features)
    world = environment.begin(rng, runs)
    lost = np.empty((horizon, runs))
    pulls = np.zeros((runs, environment.arms))
    rows = np.arange(runs)
    waiting: deque[tuple[int, Arms, Array, Array | None]] = deque()
    born = np.zeros((runs, environment.arms))  # the step at which each arm came
    replaced = np.zeros((runs, environment.arms), dtype=np.bool_)
    for t in range(horizon):
        now = world.step(t)
        if now.renewed is not None:
            replaced |= now.renewed
            born[now.renewed] = t
        if t % batch == 0:
            if replaced.any():
                # New arms are heard of with the next feedback: until then they pass for the ones
                # that they replaced.
                learner.forget(replaced)
                replaced[:] = False
            while waiting and waiting[0][0] + delay < t:
                at, arm, reward, x = waiting.popleft()
                learner.learn(arm, reward, x, t - 1 - at, None if now.renewed is None else born[rows, arm] > at)
            learner.look()
        arm = learner.choose(rng, now.x)
        means = np.broadcast_to(now.means, pulls.shape)
        mean = means[rows, arm]
        lost[t] = means.max(axis=1) - mean
        pulls[rows, arm] += 1.0
        waiting.append((t, arm, environment.draw(rng, mean, arm), now.x))
        learner.pass_time()
    return Simulation(np.cumsum(lost, axis=0).T, pulls)
