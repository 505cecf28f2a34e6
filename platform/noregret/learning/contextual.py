"""What a contextual policy's models know: a model an arm, over matured decisions bucket by bucket, and over open ones for the time being.

Closed buckets are learned once, in order, and kept beside the evidence: a logistic model depends on how rows are cut into batches, and a
discount on their order, so the same buckets give the same numbers again. Feedback on decisions whose window is open is added anew each time
that a snapshot is made: a policy that waited for windows to close would learn a window late.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from django.db import connection

from bandits.context import ContextInvalid, ContextSchema
from bandits.policies import contextual_names, make_contextual
from bandits.policies.protocol import ContextualBelief, ContextualPolicy
from bandits.posteriors import BayesianLogistic, LinearStatistics
from bandits.reward import RewardModel
from bandits.statistics import Array
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import learned_when_matured

# The newest feedback on open decisions that a snapshot is made from: more would keep a round from ending within its second.
OPEN_ROWS = 20_000

Rows = Sequence[tuple[int, float, str | None]]
"""(arm position, value, context as JSON)"""


def policy_of(experiment: Experiment) -> ContextualPolicy | None:
    """The experiment's policy if it learns from features."""
    policy = experiment.policy
    if policy is None or policy["name"] not in contextual_names():
        return None
    return make_contextual(policy["name"], **policy["params"])


class Models:
    """The models of an experiment's arms, under one policy. Changes in place."""

    def __init__(
        self, experiment: Experiment, policy: ContextualPolicy, state: dict[str, Any], reward: RewardModel
    ) -> None:
        self._policy = policy
        self._reward = reward
        self._schema = ContextSchema.from_document((experiment.context or {}).get("fields", []))
        self._arms = experiment.arms.count()
        features = self._schema.features
        self._linear: LinearStatistics | None = None
        self._logistic: list[BayesianLogistic] = []
        if policy.model == "linear":
            zeros = LinearStatistics.zeros(self._arms, dimension=features)
            self._linear = LinearStatistics.from_dict(state).with_arms(self._arms) if state else zeros
        else:
            self._prior = BayesianLogistic.prior(features, policy.ridge)
            held = [BayesianLogistic.from_dict(arm) for arm in state.get("arms", [])]
            self._logistic = held + [self._prior] * (self._arms - len(held))

    def learn(self, rows: Rows, *, fade: bool = True) -> None:
        """One batch: `fade` what was known before by a discount for each of its rows. Rows that can't be read are passed over."""
        readable = [(arm, value, x) for arm, value, context in rows if (x := self._encode(context)) is not None]
        if not readable:
            return
        arm = np.array([row[0] for row in readable])
        value = np.array([row[1] for row in readable], dtype=np.float64)
        x = np.array([row[2] for row in readable])
        discount = self._policy.memory.discount
        factor = 1.0 if discount is None or not fade else discount ** len(readable)
        if self._linear is not None:
            kept = self._linear if factor == 1.0 else self._linear.decayed(factor)
            self._linear = kept + LinearStatistics.from_rows(arm, x, value, self._arms)
            return
        good = 1.0 - value if self._reward.direction == "minimize" else value
        for position in range(self._arms):
            mine = arm == position
            held = self._logistic[position]
            if factor < 1.0:
                held = BayesianLogistic(
                    held.mean, self._prior.precision + factor * (held.precision - self._prior.precision)
                )
            self._logistic[position] = held.update(x[mine], good[mine])

    def _encode(self, context: str | None) -> Array | None:
        try:
            return self._schema.encode(None if context is None else msgspec.json.decode(context, type=dict[str, Any]))
        except (ContextInvalid, msgspec.DecodeError):
            return None

    def belief(self) -> ContextualBelief:
        """What the policy believes now."""
        if self._linear is not None:
            return self._policy.believe(self._linear, self._reward)
        stacked = BayesianLogistic(
            np.stack([arm.mean for arm in self._logistic]), np.stack([arm.precision for arm in self._logistic])
        )
        return self._policy.believe(stacked, self._reward)

    def to_dict(self) -> dict[str, Any]:
        if self._linear is not None:
            return self._linear.to_dict()
        return {"arms": [arm.to_dict() for arm in self._logistic]}


_OPEN = """
SELECT r.arm_id, r.value, d.context::text
FROM serving_reward AS r JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late AND NOT r.matured
AND d.fallback_reason IS NULL AND (%(since)s::timestamptz IS NULL OR r.decided_at >= %(since)s)
ORDER BY r.decided_at DESC LIMIT %(limit)s
"""


def belief_of(experiment: Experiment, policy: ContextualPolicy, reward: RewardModel) -> ContextualBelief:
    """What the policy believes: from closed buckets, and from feedback on decisions that are open still.

    Where silence means something, from closed buckets alone (noregret.experiments.rewards).
    """
    held = experiment.evidence
    models = Models(experiment, policy, held.learned, reward)
    if learned_when_matured(experiment.reward):
        return models.belief()
    position = {arm: i for i, arm in enumerate(experiment.arms.order_by("position").values_list("pk", flat=True))}
    with connection.cursor() as cursor:
        cursor.execute(
            _OPEN,
            {
                "experiment": experiment.pk,
                "metric": experiment.reward["metric"],
                "since": held.closed_until,
                "limit": OPEN_ROWS,
            },
        )
        rows = cursor.fetchall()
    models.learn([(position[arm], value, context) for arm, value, context in rows if arm in position])
    return models.belief()
