"""The models of a contextual policy's arms: a service learns them from closed buckets, an
evaluation from a log, simulation step by step.

A step is a decision that is learned from, as they come: with a discount each row weighs discount **
(rows since), within its batch too, so what is known does not depend on how rows were cut into
batches. (One weight a batch was rejected: a batch as large as the memory, as all open decisions
are, then counts as a whole, and the memory is as long as the batch.) A logistic model's Gaussians
do depend on the batches, a little (posteriors.logistic): who wants the same numbers again has to
cut them the same way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .policies.protocol import ContextualBelief, ContextualPolicy
from .posteriors import BayesianLogistic, LinearStatistics
from .reward import RewardModel
from .statistics import Array


class ArmModels:
    """A model an arm, under one policy: of one experiment, or of many `runs` side by side. Changes
    in place.

    One experiment learns batches of rows (`learn`), runs side by side a row each (`learn_each`,
    between steps `fade`). `to_dict` gives JSON that the constructor takes as `state`, of one
    experiment.
    """

    def __init__(
        self,
        policy: ContextualPolicy,
        reward: RewardModel,
        arms: int,
        features: int,
        state: dict[str, Any] | None = None,
        runs: int | None = None,
    ) -> None:
        """`state` may know of fewer arms: those that were added since have seen nothing.

        Raises ValueError for rewards that are not binary where the model is logistic, and for a
        policy with a sliding window: the sums of a model have no rows to take back.
        """
        if policy.model == "logistic" and reward.kind != "binary":
            raise ValueError(f"{policy.name} needs a binary reward")
        if policy.memory.sliding_window is not None:
            raise ValueError("a contextual policy forgets by discount: sliding_window is for policies without features")
        self._policy = policy
        self._reward = reward
        self._arms = arms
        self._prior = BayesianLogistic.prior(features, policy.ridge)
        shape = (arms,) if runs is None else (runs, arms)
        self._rows = None if runs is None else np.arange(runs)
        self._known: LinearStatistics | BayesianLogistic
        if policy.model == "linear":
            zeros = LinearStatistics.zeros(*shape, dimension=features)
            self._known = LinearStatistics.from_dict(state).with_arms(arms) if state else zeros
        else:
            known = [BayesianLogistic.from_dict(arm) for arm in (state or {}).get("arms", [])]
            mean, precision = (
                np.tile(part, (*shape, *(1 for _ in part.shape))) for part in (self._prior.mean, self._prior.precision)
            )
            for position, one in enumerate(known):
                mean[position], precision[position] = one.mean, one.precision
            self._known = BayesianLogistic(mean, precision)
        # Sums of x x' of decisions whose rewards are out.
        self._out: Array = np.zeros((*shape, features, features))

    def learn(self, arm: NDArray[np.int64], x: Array, y: Array, answered: NDArray[np.bool_] | None = None) -> None:
        """One batch of decisions in order of time: `arm` (n,), features `x` (n, d), rewards `y`
        (n,).

        Those that are not `answered` (n,) are out: they narrow what a policy that counts its pulls
        believes, and teach nothing.
        """
        steps = len(arm)
        if steps == 0:
            return
        discount = self._policy.memory.discount
        weights = None if discount is None else np.power(discount, np.arange(steps - 1, -1, -1.0))
        self.fade(steps)
        if answered is not None and not answered.all():
            self._count_pulls(arm[~answered], x[~answered], None if weights is None else weights[~answered])
            arm, x, y = arm[answered], x[answered], y[answered]
            weights = None if weights is None else weights[answered]
        if isinstance(self._known, LinearStatistics):
            self._known = self._known + LinearStatistics.from_rows(arm, x, y, self._arms, weights)
            return
        good = self._good(y)
        mean, precision = self._known.mean.copy(), self._known.precision.copy()
        for position in np.unique(arm):
            mine = arm == position
            after = BayesianLogistic(mean[position], precision[position]).update(
                x[mine], good[mine], None if weights is None else weights[mine]
            )
            mean[position], precision[position] = after.mean, after.precision
        self._known = BayesianLogistic(mean, precision)

    @property
    def _discount(self) -> float:
        return 1.0 if self._policy.memory.discount is None else self._policy.memory.discount

    def fade(self, steps: int) -> None:
        """So many steps pass: what is known counts less, where the policy's memory has a
        discount."""
        if self._discount == 1.0:
            return
        factor = self._discount**steps
        known = self._known
        self._known = (
            known.faded(factor) if isinstance(known, LinearStatistics) else known.faded(factor, self._prior.precision)
        )
        self._out = self._out * factor

    def _good(self, y: Array) -> Array:
        """Outcomes turned so that 1 is good."""
        return 1.0 - y if self._reward.direction == "minimize" else y

    def _count_pulls(self, arm: NDArray[np.int64], x: Array, weights: Array | None) -> None:
        for position in np.unique(arm):
            mine = arm == position
            rows = x[mine]
            self._out[position] += (rows if weights is None else rows * weights[mine, None]).T @ rows

    def pull_each(self, arm: NDArray[np.int64], x: Array) -> None:
        """In each run an arm (runs,) was pulled for features `x` (runs, d), and its reward is out.
        `fade` ends the step."""
        # The newest decision counts in full, once its own step has passed.
        self._out[self._rows, arm] += x[:, :, None] * x[:, None, :] / self._discount

    def learn_each(self, arm: NDArray[np.int64], x: Array, y: Array, age: int = 0) -> None:
        """The rewards `y` (runs,) of an arm (runs,) in each run, of decisions that lie `age` steps
        back.

        A policy that counts its pulls was told of them by `pull_each`, in their own step.
        """
        weight = self._discount**age
        here = (self._rows, arm)
        squares = x[:, :, None] * x[:, None, :]
        if self._policy.counts_own_pulls:
            self._out[here] -= weight * squares
        known = self._known
        if isinstance(known, BayesianLogistic):
            after = BayesianLogistic(known.mean[here], known.precision[here]).update_rows(x, self._good(y), weight)
            known.mean[here], known.precision[here] = after.mean, after.precision
            return
        known.gram[here] += weight * squares
        known.moment[here] += weight * y[:, None] * x
        known.features[here] += weight * x
        rewards = known.rewards
        rewards.count[here] += weight
        delta = y - rewards.mean[here]
        rewards.mean[here] += weight * delta / rewards.count[here]
        rewards.m2[here] += weight * delta * (y - rewards.mean[here])

    def forget(self, arms: NDArray[np.bool_]) -> None:
        """These arms, (K,) or (runs, K), are new ones."""
        known = self._known
        if isinstance(known, LinearStatistics):
            for part in (known.gram, known.moment, known.features):
                part[arms] = 0.0
            for part in (known.rewards.count, known.rewards.mean, known.rewards.m2):
                part[arms] = 0.0
        else:
            known.mean[arms], known.precision[arms] = self._prior.mean, self._prior.precision
        self._out[arms] = 0.0

    def belief(self) -> ContextualBelief:
        """What the policy believes now."""
        known = self._known
        if isinstance(known, BayesianLogistic):  # a belief stays what it was while its models learn on
            known = BayesianLogistic(known.mean.copy(), known.precision)
        belief = self._policy.believe(known, self._reward)
        return belief.after_pulls(self._out) if self._policy.counts_own_pulls else belief

    def to_dict(self) -> dict[str, Any]:
        """What was learned, without the pulls that are out."""
        if isinstance(self._known, LinearStatistics):
            return self._known.to_dict()
        pairs = zip(self._known.mean, self._known.precision, strict=True)
        return {"arms": [BayesianLogistic(mean, precision).to_dict() for mean, precision in pairs]}
