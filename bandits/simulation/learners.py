"""What simulated runs have learned, side by side: arrays with an axis of runs first, changed in place, for millions of small steps."""

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.memory import Memory
from bandits.policies import ContextualPolicy, Policy
from bandits.posteriors import BayesianLogistic, LinearStatistics
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

Arms = NDArray[np.int64]


class Learner(Protocol):
    """One policy in many runs."""

    def choose(self, rng: np.random.Generator, x: Array | None) -> Arms:
        """An arm for each run, from what was known at the last `look`."""

    def propensities(self, x: Array | None) -> Array:
        """The probability of each arm for each run, (runs, K), from what was known at the last `look`; before floor and burn-in."""

    def pulled(self, arm: Arms) -> None:
        """An arm for each run was drawn from them, and its reward is out. `choose` does this by itself."""

    def learn(self, arm: Arms, reward: Array, x: Array | None, age: int, stale: NDArray[np.bool_] | None) -> None:
        """The rewards of a step that lies `age` steps back; `stale` (runs,) ones are of arms that are no more."""

    def pass_time(self) -> None:
        """One more step: what is known fades, where the policy's memory does."""

    def look(self) -> None:
        """From now on choices follow what is known now."""

    def forget(self, arms: NDArray[np.bool_]) -> None:
        """These arms (runs, K) are new ones."""


class MomentsLearner:
    """For policies that learn each arm's mean: sums of weights, of rewards and of their squares, (runs, K)."""

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
        self._now = 0

    def choose(self, rng: np.random.Generator, x: Array | None) -> Arms:
        chosen = self._policy.choose(self._known, self._reward, rng, self._pulls)
        self.pulled(chosen)
        return chosen

    def propensities(self, x: Array | None) -> Array:
        if self._pulls is not None:
            return self._policy.propensities(self._known, self._reward, self._pulls)
        if self._shares is None:
            self._shares = self._policy.propensities(self._known, self._reward)
        return self._shares

    def pulled(self, arm: Arms) -> None:
        if self._pulls is not None:
            self._pulls[self._rows, arm] += 1.0

    def learn(self, arm: Arms, reward: Array, x: Array | None, age: int, stale: NDArray[np.bool_] | None) -> None:
        memory = self._policy.memory
        weight: Array | float = 1.0
        if memory.sliding_window is not None:
            if age >= memory.sliding_window:
                return
            self._window.append((self._now - age, arm, reward))
        elif memory.discount is not None:
            weight = memory.discount**age
        if stale is not None:
            weight = np.where(stale, 0.0, weight)
        self._add(arm, reward, weight)
        if self._pulls is not None:
            self._pulls[self._rows, arm] -= 1.0 if stale is None else ~stale

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
            for held in (self._count, self._total, self._squares):
                held *= memory.discount
        elif memory.sliding_window is not None:
            while self._window and self._now - self._window[0][0] >= memory.sliding_window:
                _, arm, reward = self._window.popleft()
                self._add(arm, reward, -1.0)

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


class LinearLearner:
    """For policies with a linear model an arm: one LinearStatistics of (runs, K)."""

    def __init__(self, policy: ContextualPolicy, reward: RewardModel, runs: int, arms: int, features: int) -> None:
        _only_discounts(policy.memory)
        self._policy = policy
        self._reward = reward
        self._rows = np.arange(runs)
        self._held = LinearStatistics.zeros(runs, arms, dimension=features)
        self._belief = policy.believe(self._held, reward)

    def choose(self, rng: np.random.Generator, x: Array | None) -> Arms:
        if x is None:
            raise ValueError(f"{self._policy.name} needs an environment with features")
        return self._policy.choose(*self._belief.values(x), rng)

    def propensities(self, x: Array | None) -> Array:
        if x is None:
            raise ValueError(f"{self._policy.name} needs an environment with features")
        return self._policy.propensities(*self._belief.values(x))

    def pulled(self, arm: Arms) -> None:
        """A model's belief is not narrowed by pulls whose rewards are out."""

    def learn(self, arm: Arms, reward: Array, x: Array | None, age: int, stale: NDArray[np.bool_] | None) -> None:
        if x is None:
            raise ValueError(f"{self._policy.name} needs an environment with features")
        weight = 1.0 if self._policy.memory.discount is None else self._policy.memory.discount**age
        here, held = (self._rows, arm), self._held
        held.gram[here] += weight * x[:, :, None] * x[:, None, :]
        held.moment[here] += weight * reward[:, None] * x
        held.features[here] += weight * x
        rewards = held.rewards
        rewards.count[here] += weight
        delta = reward - rewards.mean[here]
        rewards.mean[here] += weight * delta / rewards.count[here]
        rewards.m2[here] += weight * delta * (reward - rewards.mean[here])

    def pass_time(self) -> None:
        if self._policy.memory.discount is not None:
            self._held = self._held.decayed(self._policy.memory.discount)

    def look(self) -> None:
        self._belief = self._policy.believe(self._held, self._reward)

    def forget(self, arms: NDArray[np.bool_]) -> None:
        for held in (self._held.gram, self._held.moment, self._held.features):
            held[arms] = 0.0
        for part in (self._held.rewards.count, self._held.rewards.mean, self._held.rewards.m2):
            part[arms] = 0.0


class LogisticLearner:
    """For policies with a logistic model an arm: stacked Gaussians, one row at a time."""

    def __init__(self, policy: ContextualPolicy, reward: RewardModel, runs: int, arms: int, features: int) -> None:
        _only_discounts(policy.memory)
        if reward.kind != "binary":
            raise ValueError(f"{policy.name} needs binary rewards")
        self._policy = policy
        self._reward = reward
        self._rows = np.arange(runs)
        self._mean = np.zeros((runs, arms, features))
        self._prior = policy.ridge * np.eye(features)
        self._precision = np.tile(self._prior, (runs, arms, 1, 1))
        self.look()

    def choose(self, rng: np.random.Generator, x: Array | None) -> Arms:
        if x is None:
            raise ValueError(f"{self._policy.name} needs an environment with features")
        return self._policy.choose(*self._belief.values(x), rng)

    def propensities(self, x: Array | None) -> Array:
        if x is None:
            raise ValueError(f"{self._policy.name} needs an environment with features")
        return self._policy.propensities(*self._belief.values(x))

    def pulled(self, arm: Arms) -> None:
        """A model's belief is not narrowed by pulls whose rewards are out."""

    def learn(self, arm: Arms, reward: Array, x: Array | None, age: int, stale: NDArray[np.bool_] | None) -> None:
        if x is None:
            raise ValueError(f"{self._policy.name} needs an environment with features")
        good = 1.0 - reward if self._reward.direction == "minimize" else reward
        here = (self._rows, arm)
        updated = BayesianLogistic(self._mean[here], self._precision[here]).update_rows(x, good)
        self._mean[here], self._precision[here] = updated.mean, updated.precision

    def pass_time(self) -> None:
        factor = self._policy.memory.discount
        if factor is not None:
            # Wider, with the same mode: what was learned counts less against what comes.
            self._precision = self._prior + factor * (self._precision - self._prior)

    def look(self) -> None:
        self._belief = self._policy.believe(BayesianLogistic(self._mean.copy(), self._precision), self._reward)

    def forget(self, arms: NDArray[np.bool_]) -> None:
        self._mean[arms], self._precision[arms] = 0.0, self._prior


def _only_discounts(memory: Memory) -> None:
    if memory.sliding_window is not None:
        raise ValueError("a contextual policy forgets by discount: sliding_window is for policies without features")


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
    kind = LinearLearner if policy.model == "linear" else LogisticLearner
    return kind(policy, reward, runs, arms, features)
