"""What simulated runs have learned, side by side: arrays with an axis of runs first, changed in
place, for millions of small steps."""

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.arm_models import ArmModels
from bandits.policies import ContextualPolicy, Policy
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

Arms = NDArray[np.int64]


class Learner(Protocol):
    """One policy in many runs."""

    def choose(self, rng: np.random.Generator, x: Array | None) -> Arms:
        """An arm for each run, from what was known at the last `look`."""

    def propensities(self, x: Array | None) -> Array:
        """The probability of each arm for each run, (runs, K), from what was known at the last
        `look`; before floor and burn-in."""

    def pulled(self, arm: Arms, x: Array | None) -> None:
        """An arm for each run was drawn from them, and its reward is out. `choose` does this by
        itself."""

    def learn(self, arm: Arms, reward: Array, x: Array | None, age: int, stale: NDArray[np.bool_] | None) -> None:
        """The rewards of a step that lies `age` steps back; `stale` (runs,) ones are of arms that
        are no more."""

    def pass_time(self) -> None:
        """One more step: what is known fades, where the policy's memory does."""

    def look(self) -> None:
        """From now on choices follow what is known now."""

    def forget(self, arms: NDArray[np.bool_]) -> None:
        """These arms (runs, K) are new ones."""


class MomentsLearner:
    """For policies that learn each arm's mean: sums of weights, of rewards and of their squares,
    (runs, K)."""

    def __init__(self, policy: Policy, reward: RewardModel, runs: int, arms: int) -> None:
        self._policy = policy
        self._reward = reward
        self._rows = np.arange(runs)
        self._count, self._total, self._squares = (np.zeros((runs, arms)) for _ in range(3))
        self._binary = reward.kind == "binary"
        self._pulls = np.zeros((runs, arms)) if policy.counts_own_pulls else None
        self._known = ArmStatistics.zeros(runs, arms)
        self._shares: Array | None = None
        self._window: deque[tuple[int, Arms, Array]] = deque()
        self._out: deque[tuple[int, Arms]] = deque()  # pulls whose rewards are out, oldest first
        self._now = 0

    def choose(self, rng: np.random.Generator, x: Array | None) -> Arms:
        chosen = self._policy.choose(self._known, self._reward, rng, self._pulls)
        self.pulled(chosen, x)
        return chosen

    def propensities(self, x: Array | None) -> Array:
        if self._pulls is not None:
            return self._policy.propensities(self._known, self._reward, self._pulls)
        if self._shares is None:
            self._shares = self._policy.propensities(self._known, self._reward)
        return self._shares

    def pulled(self, arm: Arms, x: Array | None) -> None:
        if self._pulls is not None:
            self._pulls[self._rows, arm] += 1.0
            self._out.append((self._now, arm))

    def learn(self, arm: Arms, reward: Array, x: Array | None, age: int, stale: NDArray[np.bool_] | None) -> None:
        memory = self._policy.memory
        weight: Array | float = 1.0
        self._answered(arm, age, stale)
        if memory.sliding_window is not None:
            if age >= memory.sliding_window:
                return
            self._window.append((self._now - age, arm, reward))
        elif memory.discount is not None:
            weight = memory.discount**age
        if stale is not None:
            weight = np.where(stale, 0.0, weight)
        self._add(arm, reward, weight)

    def _answered(self, arm: Arms, age: int, stale: NDArray[np.bool_] | None) -> None:
        """A pull that is out no more, unless the memory dropped it before its answer came."""
        if self._pulls is None or not self._out or self._out[0][0] != self._now - 1 - age:
            return
        self._out.popleft()
        weight = 1.0 if self._policy.memory.discount is None else self._policy.memory.discount ** (age + 1)
        self._pulls[self._rows, arm] -= weight if stale is None else np.where(stale, 0.0, weight)
        np.maximum(self._pulls, 0.0, out=self._pulls)

    def _add(self, arm: Arms, reward: Array, weight: Array | float) -> None:
        here = (self._rows, arm)
        self._count[here] += weight
        self._total[here] += weight * reward
        if not self._binary:
            self._squares[here] += weight * np.square(reward)

    def pass_time(self) -> None:
        self._now += 1
        memory = self._policy.memory
        if memory.discount is not None:
            for held in (self._count, self._total, self._squares, self._pulls):
                if held is not None:
                    held *= memory.discount
        elif memory.sliding_window is not None:
            while self._window and self._now - self._window[0][0] >= memory.sliding_window:
                _, arm, reward = self._window.popleft()
                self._add(arm, reward, -1.0)
            while self._pulls is not None and self._out and self._now - self._out[0][0] > memory.sliding_window:
                _, arm = self._out.popleft()
                self._pulls[self._rows, arm] = np.maximum(self._pulls[self._rows, arm] - 1.0, 0.0)

    def look(self) -> None:
        count = self._count if not self._policy.memory.forgets else np.where(self._count > 1e-9, self._count, 0.0)
        mean = np.divide(self._total, count, out=np.zeros_like(count), where=count > 0)
        squares = self._total if self._binary else self._squares
        self._shares = None
        self._known = ArmStatistics(count.copy(), mean, np.maximum(squares - self._total * mean, 0.0))

    def forget(self, arms: NDArray[np.bool_]) -> None:
        for held in (self._count, self._total, self._squares, self._pulls):
            if held is not None:
                held[arms] = 0.0


class ContextualLearner:
    """For policies with a model an arm: the same models that the service and an evaluation learn,
    of all runs side by side."""

    def __init__(self, policy: ContextualPolicy, reward: RewardModel, runs: int, arms: int, features: int) -> None:
        self._policy = policy
        self._models = ArmModels(policy, reward, arms, features, runs=runs)
        self._belief = self._models.belief()

    def choose(self, rng: np.random.Generator, x: Array | None) -> Arms:
        chosen = self._policy.choose(*self._belief.values(self._needed(x)), rng)
        self.pulled(chosen, x)
        return chosen

    def propensities(self, x: Array | None) -> Array:
        return self._policy.propensities(*self._belief.values(self._needed(x)))

    def pulled(self, arm: Arms, x: Array | None) -> None:
        if self._policy.counts_own_pulls:
            self._models.pull_each(arm, self._needed(x))
            self._belief = self._belief.after_pull(arm, self._needed(x))

    def learn(self, arm: Arms, reward: Array, x: Array | None, age: int, stale: NDArray[np.bool_] | None) -> None:
        self._models.learn_each(arm, self._needed(x), reward, age)

    def pass_time(self) -> None:
        self._models.fade(1)

    def look(self) -> None:
        self._belief = self._models.belief()

    def forget(self, arms: NDArray[np.bool_]) -> None:
        self._models.forget(arms)

    def _needed(self, x: Array | None) -> Array:
        if x is None:
            raise ValueError(f"{self._policy.name} needs an environment with features")
        return x


def learner_of(
    policy: Policy | ContextualPolicy, reward: RewardModel, runs: int, arms: int, features: int | None
) -> Learner:
    """Raises ValueError for a contextual policy where there are no features."""
    if not policy.contextual:
        return MomentsLearner(policy, reward, runs, arms)
    if features is None:
        raise ValueError(
            f"{policy.name} needs an environment with features, as contextual_linear or contextual_logistic"
        )
    return ContextualLearner(policy, reward, runs, arms, features)
