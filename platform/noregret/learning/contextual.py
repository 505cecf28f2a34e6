"""What a contextual policy's models know: a model an arm, over matured decisions bucket by bucket,
and over open ones for the time being.

Closed buckets are learned once, in order, and kept beside the evidence: a logistic model depends on
how rows are cut into batches, and a discount on their order, so the same buckets give the same
numbers again. Feedback on decisions whose window is open is added anew each time that a snapshot is
made: a policy that waited for windows to close would learn a window late.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from django.db import connection

from bandits.arm_models import ArmModels
from bandits.context import ContextInvalid, ContextSchema
from bandits.policies import contextual_names, make_contextual
from bandits.policies.protocol import ContextualBelief, ContextualPolicy
from bandits.reward import RewardModel
from bandits.statistics import Array
from noregret.experiments.models import Experiment
from noregret.experiments.rewards import learned_when_matured, reward_model

from .buckets import bucket_width, in_buckets
from .clock import earliest_decision
from .closed_rows import Row
from .evidence import seats_of
from .quarantine import learnable

# The newest open decisions that a snapshot is made from: more would keep a round from ending within
# its second.
OPEN_ROWS = 20_000

Rows = Sequence[tuple[int, float | None, str | None]]
"""(arm position, value or None while it is out, context as JSON)"""


def policy_of(experiment: Experiment) -> ContextualPolicy | None:
    """The experiment's policy if it learns from features."""
    policy = experiment.policy_
    if policy is None or policy.name not in contextual_names():
        return None
    return make_contextual(policy.name, **policy.params)


def readable_context(experiment: Experiment | None, context: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of a context the experiment's models read: nothing where none learns from it."""
    if context is None or experiment is None or policy_of(experiment) is None:
        return None
    return {name: context[name] for name in context_fields(experiment) if name in context}


def context_fields(experiment: Experiment) -> list[str]:
    return [field.name for field in experiment.context_.fields]


class Models:
    """The models of an experiment's arms, under one policy, for rows of the ledger. Changes in
    place."""

    def __init__(
        self, experiment: Experiment, policy: ContextualPolicy, state: dict[str, Any], reward: RewardModel
    ) -> None:
        self._schema = ContextSchema.from_document(msgspec.to_builtins(experiment.context_.fields))
        self._models = ArmModels(policy, reward, experiment.arms.count(), self._schema.features, state)

    def learn(self, rows: Rows) -> list[int]:
        """One batch, in order of time. Rows that can't be read are passed over; their places."""
        encoded = [(arm, value, self._encode(context)) for arm, value, context in rows]
        readable = [(arm, value, x) for arm, value, x in encoded if x is not None]
        unread = [place for place, (_, _, x) in enumerate(encoded) if x is None]
        if not readable:
            return unread
        answered = np.array([value is not None for _, value, _ in readable])
        self._models.learn(
            np.array([arm for arm, _, _ in readable]),
            np.array([x for _, _, x in readable]),
            np.array([0.0 if value is None else value for _, value, _ in readable], dtype=np.float64),
            answered,
        )
        return unread

    def _encode(self, context: str | None) -> Array | None:
        try:
            return self._schema.encode(None if context is None else msgspec.json.decode(context, type=dict[str, Any]))
        except (ContextInvalid, msgspec.DecodeError, RecursionError):
            return None

    def belief(self) -> ContextualBelief:
        """What the policy believes now."""
        return self._models.belief()

    def to_dict(self) -> dict[str, Any]:
        return self._models.to_dict()


_OPEN = """
SELECT r.arm_id, r.value, d.context::text
FROM serving_reward AS r JOIN serving_decision AS d ON r.decided_at = d.decided_at AND r.decision_id = d.id
WHERE r.experiment_id = %(experiment)s AND r.metric = %(metric)s AND NOT r.late AND NOT r.matured
AND d.fallback_reason IS NULL
AND r.decided_at >= COALESCE(%(since)s::timestamptz, %(started)s) AND d.decided_at >= COALESCE(%(since)s::timestamptz, %(started)s)
ORDER BY r.decided_at DESC LIMIT %(limit)s
"""

_OPEN_AND_OUT = """
SELECT d.arm_id, CASE WHEN %(answers)s THEN r.value END, d.context::text
FROM serving_decision AS d LEFT JOIN serving_reward AS r
    ON r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND NOT r.late
    AND r.decided_at >= COALESCE(%(since)s::timestamptz, %(started)s)
WHERE d.experiment_id = %(experiment)s AND d.fallback_reason IS NULL
AND d.decided_at >= COALESCE(%(since)s::timestamptz, %(started)s)
ORDER BY d.decided_at DESC LIMIT %(limit)s
"""


def belief_of(experiment: Experiment, policy: ContextualPolicy, reward: RewardModel) -> ContextualBelief:
    """What the policy believes: from closed buckets, and from feedback on decisions that are open
    still.

    Where silence means something, from closed buckets alone (noregret.experiments.rewards). A
    policy that counts its pulls is told of open decisions without an answer too.
    """
    evidence = experiment.evidence
    models = Models(experiment, policy, evidence.learned, reward)
    waits = learned_when_matured(experiment.reward_)
    if waits and not policy.counts_own_pulls:
        return models.belief()
    position = {arm: i for i, arm in enumerate(experiment.arms.order_by("position").values_list("pk", flat=True))}
    with connection.cursor() as cursor:
        cursor.execute(
            _OPEN_AND_OUT if policy.counts_own_pulls else _OPEN,
            {
                "experiment": experiment.pk,
                "metric": experiment.reward_.metric,
                "since": evidence.closed_until,
                "started": earliest_decision(experiment),
                "limit": OPEN_ROWS,
                "answers": not waits,
            },
        )
        rows = cursor.fetchall()
    # The newest come first, so that the limit cuts off the oldest; they are learned in order of
    # time.
    known = [row for row in reversed(rows) if row[0] in position]
    # Not every one of them has been looked at by the learner.
    fits = learnable(experiment.reward_, np.array([0.0 if value is None else value for _, value, _ in known]))
    models.learn([(position[row[0]], *row[1:]) for row, good in zip(known, fits, strict=True) if good])
    return models.belief()


def replay_models(
    experiment: Experiment, state: dict[str, Any], rows: Sequence[Row], unread: list[Row] | None = None
) -> dict[str, Any]:
    """The models of a contextual policy after these rows, as for `replay`; the state as it was for
    every other.

    Rows whose context can't be read are passed over, and added to `unread`.
    """
    policy = policy_of(experiment)
    if policy is None:
        return state
    models = Models(experiment, policy, state, reward_model(experiment))
    position = seats_of(experiment)
    learned = False
    known = [row for row in rows if row.arm_id in position]
    for part in in_buckets(known, bucket_width(experiment.reward_.window_seconds)):
        # In an order that the ledger alone decides, also where two were decided in the same
        # microsecond: a discount depends on it.
        bucket = sorted(part, key=lambda row: (row.decided_at, row.arm_id, row.value, row.context or ""))
        places = models.learn([(position[row.arm_id], row.value, row.context) for row in bucket])
        if unread is not None:
            unread.extend(bucket[place] for place in places)
        learned = True
    return models.to_dict() if learned else state
