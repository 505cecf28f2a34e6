"""What a policy that learns would have chosen on a log: it learns from the log itself, block by
block, and never from what comes later.

At each decision the target's probabilities follow from decisions before its block, so weights are
predictable and the estimators stay right. The answer is to "what would this policy have earned, had
it learned from our traffic": its own choices would have brought other data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.arm_models import ArmModels
from bandits.memory import Memory
from bandits.policies import ContextualPolicy, Policy
from bandits.policies.allocation import allocate, allocate_in_context, among
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .doubly_robust import dr_of, modelled, switch_dr_of
from .estimate import Estimate, Unsupported, logged
from .importance import ips, ips_of, snips_of
from .reward_model import fitted_rewards

BLOCKS = 100


@dataclass(frozen=True, slots=True)
class Log:
    """Logged decisions in order of time. `arm` (n,) are positions, `propensities` (n,) of the
    chosen arm or (n, K) of every arm, `x` (n, d) features or None. `arms` is K. `units` (n,) number
    whoever was served, None where that is not known; `names` (K,) are the arms' for people.
    `eligible` (n, K) are the arms that each request was for, None where all were for all: the
    target chooses among these too."""

    arm: NDArray[np.int64]
    rewards: Array
    propensities: Array
    arms: int
    x: Array | None = None
    units: NDArray[np.int64] | None = None
    names: Sequence[str] | None = None
    eligible: NDArray[np.bool_] | None = None

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
    before_block: Callable[[], None] | None = None,
) -> Array:
    """The target's probability of every arm at every decision, (n, K). Raises ValueError where a
    policy needs features and has none.

    `before_block` is called before each block: who has no more time raises there.
    """
    checks.whole("blocks", blocks, 1)
    if policy.contextual and log.x is None:
        raise ValueError(f"{policy.name} learns from features: the log has none that are declared")
    found = np.empty((len(log), log.arms))
    replaying = _Contextual(policy, log, reward) if policy.contextual else _Moments(policy, log, reward)
    for rows in np.array_split(np.arange(len(log)), min(blocks, max(len(log), 1))):
        if before_block is not None:
            before_block()
        for alike, arms in _by_eligible(log, rows):
            found[alike] = replaying.probabilities(alike, floor, burn_in, arms)
        replaying.learn(rows)
    return found


def _by_eligible(log: Log, rows: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.bool_] | None]]:
    """The rows by which arms (K,) they were for, None for all."""
    if log.eligible is None:
        return [(rows, None)]
    patterns, of_row = np.unique(log.eligible[rows], axis=0, return_inverse=True)
    return [(rows[of_row.ravel() == i], None if arms.all() else arms) for i, arms in enumerate(patterns)]


class _Moments:
    def __init__(self, policy: Policy, log: Log, reward: RewardModel) -> None:
        self._policy, self._log, self._reward = policy, log, reward
        self._blocks: list[ArmStatistics] = []
        self._steps: list[int] = []
        self._ever_learned = np.zeros(log.arms)

    def probabilities(
        self, rows: NDArray[np.int64], floor: float, burn_in: float, eligible: NDArray[np.bool_] | None
    ) -> Array:
        # As in service: a policy that chooses at each request is asked among the arms that are
        # left, of another its probabilities are taken in the same ratios.
        chooses = self._policy.counts_own_pulls
        allocation = allocate(
            self._policy,
            self._known(),
            self._reward,
            floor=floor,
            burn_in=burn_in,
            learned=self._ever_learned,
            enabled=eligible if chooses else None,
        )
        return allocation if chooses or eligible is None else among(allocation, eligible)

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
        self._ever_learned = self._ever_learned + self._blocks[-1].count


class _Contextual:
    def __init__(self, policy: ContextualPolicy, log: Log, reward: RewardModel) -> None:
        self._policy, self._log = policy, log
        self._x: Array = np.empty((0, 1)) if log.x is None else log.x
        self._models = ArmModels(policy, reward, log.arms, self._x.shape[1])
        self._ever_learned = np.zeros(log.arms)

    def probabilities(
        self, rows: NDArray[np.int64], floor: float, burn_in: float, eligible: NDArray[np.bool_] | None
    ) -> Array:
        return allocate_in_context(
            self._policy,
            self._models.belief(),
            self._x[rows],
            self._ever_learned,
            floor=floor,
            burn_in=burn_in,
            enabled=eligible,
        )

    def learn(self, rows: NDArray[np.int64]) -> None:
        arm = self._log.arm[rows]
        self._models.learn(arm, self._x[rows], self._log.rewards[rows])
        self._ever_learned += np.bincount(arm, minlength=self._log.arms)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the log earned, and what the target would have by each estimator, all means in reward
    units.

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
    before_block: Callable[[], None] | None = None,
) -> Evaluation:
    """The target's value on a log by ips, snips, dr and switch_dr. Raises ValueError, Unsupported
    where the log can't answer, and what `before_block` raises (target_probabilities)."""
    if len(log) < 2:
        raise Unsupported(f"the log has {len(log)} decisions with a reward: at least 2 were expected")
    target = target_probabilities(policy, log, reward, floor=floor, burn_in=burn_in, before_block=before_block)
    never = [k for k in range(log.arms) if not (log.arm == k).any() and float(target[:, k].mean()) > 1e-3]
    if never:
        named = [f"at position {k}" if log.names is None else log.names[k] for k in never]
        raise Unsupported(
            f"the target would choose arms that the log never shows ({', '.join(named)}): nothing is known of them"
        )
    features = np.ones((len(log), 1)) if log.x is None else log.x
    bounds = _limits_of(reward)
    checked = logged(log.rewards, log.propensities, target, log.arm, bounds=bounds, units=log.units)
    model = modelled(
        fitted_rewards(log.arm, features, log.rewards, log.arms, seed=seed, units=log.units),
        checked,
    )
    doubly_robust = dr_of(checked, model, alpha)
    ones = np.ones(len(log))
    return Evaluation(
        ips(log.rewards, ones, ones, alpha=alpha, bounds=bounds, units=log.units),
        {
            "ips": ips_of(checked, alpha),
            "snips": snips_of(checked, alpha),
            "dr": doubly_robust,
            "switch_dr": switch_dr_of(checked, model, doubly_robust, alpha),
        },
        target.mean(axis=0),
    )


def _limits_of(reward: RewardModel) -> tuple[float, float]:
    """The reward's bounds, infinite where it has none: that only 0 and 1 were seen is no bound of a
    count or a revenue."""
    if reward.kind == "binary":
        return 0.0, 1.0
    least = 0.0 if reward.kind == "count" and reward.minimum is None else reward.minimum
    return -np.inf if least is None else least, np.inf if reward.maximum is None else reward.maximum
