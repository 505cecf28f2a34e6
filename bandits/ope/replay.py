"""What a policy that learns would have chosen on a log: it learns from the log itself, block by block, and never from what comes later.

At each decision the target's probabilities follow from decisions before its block, so weights are predictable and the estimators
stay right. The answer is to "what would this policy have earned, had it learned from our traffic": its own choices would have brought
other data.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.memory import Memory
from bandits.policies import ContextualPolicy, Policy
from bandits.policies.allocation import allocate, allocate_in_context
from bandits.posteriors import BayesianLogistic, LinearStatistics
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .doubly_robust import dr, switch_dr
from .estimate import Estimate, Unsupported
from .importance import ips, snips
from .reward_model import fitted_rewards

BLOCKS = 100


@dataclass(frozen=True, slots=True)
class Log:
    """Logged decisions in order of time. `arm` (n,) are positions, `propensities` (n,) of the chosen arm or (n, K) of every arm,
    `x` (n, d) features or None. `arms` is K. `units` (n,) number whoever was served, None where that is not known."""

    arm: NDArray[np.int64]
    rewards: Array
    propensities: Array
    arms: int
    x: Array | None = None
    units: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rewards)


def target_probabilities(
    policy: Policy | ContextualPolicy,
    log: Log,
    reward: RewardModel,
    *,
    floor: float = 0.0,
    burn_in: float = 0.0,
    blocks: int = BLOCKS,
) -> Array:
    """The target's probability of every arm at every decision, (n, K). Raises ValueError where a policy needs features and has none."""
    checks.whole("blocks", blocks, 1)
    if policy.contextual and log.x is None:
        raise ValueError(f"{policy.name} learns from features: the log has none that are declared")
    found = np.empty((len(log), log.arms))
    replaying = _Contextual(policy, log, reward) if policy.contextual else _Moments(policy, log, reward)
    for rows in np.array_split(np.arange(len(log)), min(blocks, max(len(log), 1))):
        found[rows] = replaying.probabilities(rows, floor, burn_in)
        replaying.learn(rows)
    return found


class _Moments:
    def __init__(self, policy: Policy, log: Log, reward: RewardModel) -> None:
        self._policy, self._log, self._reward = policy, log, reward
        self._blocks: list[ArmStatistics] = []
        self._steps: list[int] = []

    def probabilities(self, rows: NDArray[np.int64], floor: float, burn_in: float) -> Array:
        return allocate(self._policy, self._known(), self._reward, floor=floor, burn_in=burn_in)

    def _known(self) -> ArmStatistics:
        if not self._blocks:
            return ArmStatistics.zeros(self._log.arms)
        memory: Memory = self._policy.memory
        newest_first = self._blocks[::-1]
        stacked = ArmStatistics(
            *(np.stack([getattr(block, name) for block in newest_first]) for name in ("count", "mean", "m2"))
        )
        return memory.recall(stacked, np.array(self._steps[::-1], dtype=np.float64))

    def learn(self, rows: NDArray[np.int64]) -> None:
        self._blocks.append(ArmStatistics.from_rewards(self._log.arm[rows], self._log.rewards[rows], self._log.arms))
        self._steps.append(len(rows))


class _Contextual:
    def __init__(self, policy: ContextualPolicy, log: Log, reward: RewardModel) -> None:
        self._policy, self._log, self._reward = policy, log, reward
        self._x: Array = np.empty((0, 1)) if log.x is None else log.x
        features = self._x.shape[1]
        self._linear = LinearStatistics.zeros(log.arms, dimension=features)
        self._prior = BayesianLogistic.prior(features, policy.ridge)
        self._logistic = [self._prior] * log.arms
        if policy.model == "logistic" and reward.kind != "binary":
            raise ValueError(f"{policy.name} needs a binary reward")

    def probabilities(self, rows: NDArray[np.int64], floor: float, burn_in: float) -> Array:
        learned: Any = self._linear
        if self._policy.model == "logistic":
            learned = BayesianLogistic(
                np.stack([arm.mean for arm in self._logistic]), np.stack([arm.precision for arm in self._logistic])
            )
        belief = self._policy.believe(learned, self._reward)
        return allocate_in_context(
            self._policy, belief, self._x[rows], self._linear.rewards.count, floor=floor, burn_in=burn_in
        )

    def learn(self, rows: NDArray[np.int64]) -> None:
        arm, x, y = self._log.arm[rows], self._x[rows], self._log.rewards[rows]
        discount = self._policy.memory.discount
        factor = 1.0 if discount is None else discount ** len(rows)
        self._linear = self._linear.decayed(factor) + LinearStatistics.from_rows(arm, x, y, self._log.arms)
        if self._policy.model == "logistic":
            good = 1.0 - y if self._reward.direction == "minimize" else y
            for position in range(self._log.arms):
                mine = arm == position
                held = self._logistic[position]
                wider = self._prior.precision + factor * (held.precision - self._prior.precision)
                self._logistic[position] = BayesianLogistic(held.mean, wider).update(x[mine], good[mine])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the log earned, and what the target would have by each estimator, all means in reward units.

    `shares` (K,) is how often the target would have chosen each arm.
    """

    logged: Estimate
    estimates: dict[str, Estimate]
    shares: Array


def evaluate(
    policy: Policy | ContextualPolicy,
    log: Log,
    reward: RewardModel,
    *,
    floor: float = 0.0,
    burn_in: float = 0.0,
    alpha: float = 0.05,
    seed: int = 0,
) -> Evaluation:
    """The target's value on a log by ips, snips, dr and switch_dr. Raises ValueError, and Unsupported where the log can't answer."""
    if len(log) < 2:
        raise Unsupported(f"the log has {len(log)} decisions with a reward: at least 2 were expected")
    target = target_probabilities(policy, log, reward, floor=floor, burn_in=burn_in)
    never = [k for k in range(log.arms) if not (log.arm == k).any() and float(target[:, k].mean()) > 1e-3]
    if never:
        raise Unsupported(
            f"the target would choose arms that the log never shows (positions {', '.join(map(str, never))}): nothing is known of them"
        )
    features = np.ones((len(log), 1)) if log.x is None else log.x
    modelled = fitted_rewards(log.arm, features, log.rewards, log.arms, seed=seed, units=log.units)
    given = (log.rewards, log.propensities, target)
    shared: dict[str, Any] = {"alpha": alpha, "bounds": _limits_of(reward), "units": log.units}
    ones = np.ones(len(log))
    return Evaluation(
        ips(log.rewards, ones, ones, **shared),
        {
            "ips": ips(*given, actions=log.arm, **shared),
            "snips": snips(*given, actions=log.arm, **shared),
            "dr": dr(*given, modelled, actions=log.arm, **shared),
            "switch_dr": switch_dr(*given, modelled, actions=log.arm, **shared),
        },
        target.mean(axis=0),
    )


def _limits_of(reward: RewardModel) -> tuple[float, float]:
    """The reward's bounds, infinite where it has none: that only 0 and 1 were seen is no bound of a count or a revenue."""
    if reward.kind == "binary":
        return 0.0, 1.0
    least = 0.0 if reward.kind == "count" and reward.minimum is None else reward.minimum
    return -np.inf if least is None else least, np.inf if reward.maximum is None else reward.maximum
