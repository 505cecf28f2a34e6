"""The models of a contextual policy's arms, learned batch by batch: what a service learns of closed buckets, and an evaluation of a log.

A step is a decision that is learned from, as they come: with a discount each row weighs discount ** (rows since), within its batch too,
so what is known does not depend on how rows were cut into batches. (One weight a batch was rejected: a batch as large as the memory, as
all open decisions are, then counts as a whole, and the memory is as long as the batch.) A logistic model's Gaussians do depend on the
batches, a little (posteriors.logistic): who wants the same numbers again has to cut them the same way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .policies.protocol import ContextualBelief, ContextualPolicy
from .posteriors import BayesianLogistic, LinearStatistics
from .reward import RewardModel
from .statistics import Array


class ArmModels:
    """A model an arm, under one policy. Changes in place; `to_dict` gives JSON that the constructor takes as `state`."""

    def __init__(
        self,
        policy: ContextualPolicy,
        reward: RewardModel,
        arms: int,
        features: int,
        state: dict[str, Any] | None = None,
    ) -> None:
        """`state` may know of fewer arms: those that were added since have seen nothing. Raises ValueError for rewards that are not binary
        where the model is logistic."""
        if policy.model == "logistic" and reward.kind != "binary":
            raise ValueError(f"{policy.name} needs a binary reward")
        self._policy = policy
        self._reward = reward
        self._arms = arms
        self._linear: LinearStatistics | None = None
        self._logistic: list[BayesianLogistic] = []
        self._out: Array = np.zeros((arms, features, features))
        if policy.model == "linear":
            zeros = LinearStatistics.zeros(arms, dimension=features)
            self._linear = LinearStatistics.from_dict(state).with_arms(arms) if state else zeros
        else:
            self._prior = BayesianLogistic.prior(features, policy.ridge)
            known = [BayesianLogistic.from_dict(arm) for arm in (state or {}).get("arms", [])]
            self._logistic = known + [self._prior] * (arms - len(known))

    def learn(self, arm: NDArray[np.int64], x: Array, y: Array, answered: NDArray[np.bool_] | None = None) -> None:
        """One batch of decisions in order of time: `arm` (n,), features `x` (n, d), rewards `y` (n,).

        Those that are not `answered` (n,) are out: they narrow what a policy that counts its pulls believes, and teach nothing.
        """
        steps = len(arm)
        if steps == 0:
            return
        discount = self._policy.memory.discount
        weights = None if discount is None else np.power(discount, np.arange(steps - 1, -1, -1.0))
        fade = 1.0 if discount is None else discount**steps
        if answered is not None and not answered.all():
            self._out *= fade
            self._count_pulls(arm[~answered], x[~answered], None if weights is None else weights[~answered])
            arm, x, y = arm[answered], x[answered], y[answered]
            weights = None if weights is None else weights[answered]
        if self._linear is not None:
            kept = self._linear if fade == 1.0 else self._linear.decayed(fade)
            self._linear = kept + LinearStatistics.from_rows(arm, x, y, self._arms, weights)
            return
        good = 1.0 - y if self._reward.direction == "minimize" else y
        for position in range(self._arms):
            mine = arm == position
            model = self._logistic[position]
            if fade < 1.0:
                # Wider, with the same mode: what was learned counts less against what comes.
                wider = self._prior.precision + fade * (model.precision - self._prior.precision)
                model = BayesianLogistic(model.mean, wider)
            self._logistic[position] = model.update(x[mine], good[mine], None if weights is None else weights[mine])

    def _count_pulls(self, arm: NDArray[np.int64], x: Array, weights: Array | None) -> None:
        for position in np.unique(arm):
            mine = arm == position
            rows = x[mine]
            self._out[position] += (rows if weights is None else rows * weights[mine, None]).T @ rows

    def belief(self) -> ContextualBelief:
        """What the policy believes now."""
        if self._linear is None:
            stacked = BayesianLogistic(
                np.stack([arm.mean for arm in self._logistic]), np.stack([arm.precision for arm in self._logistic])
            )
            return self._policy.believe(stacked, self._reward)
        belief = self._policy.believe(self._linear, self._reward)
        return belief.after_pulls(self._out) if self._policy.counts_own_pulls else belief

    def to_dict(self) -> dict[str, Any]:
        """What was learned, without the pulls that are out."""
        if self._linear is not None:
            return self._linear.to_dict()
        return {"arms": [arm.to_dict() for arm in self._logistic]}
