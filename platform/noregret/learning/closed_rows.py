"""Rows of the ledger that buckets are closed with: as they are read, live and in a rebuild."""

from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

ROW_COLUMNS = """
d.arm_id, d.propensities, r.value, d.decided_at,
CASE WHEN r.defaulted THEN NULL ELSE extract(epoch FROM r.recorded_at - r.decided_at)::float8 END,
CASE WHEN %(with_context)s THEN d.context::text END, d.policy_version, d.id, r.arm_id, d.excluded
"""

# Every trial that its arm served, of closed buckets, answered or not.
SERVED = """
SELECT d.arm_id, d.propensities, d.decided_at, d.policy_version, EXISTS (
    SELECT 1 FROM serving_reward AS r
    WHERE r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND r.matured
    AND r.decided_at >= %(start)s AND r.decided_at < %(end)s), d.excluded
FROM serving_decision AS d
WHERE d.experiment_id = %(experiment)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s
AND d.trial AND d.fallback_reason IS NULL
ORDER BY d.decided_at
"""


# The same trials counted: a row for all of a bucket that were drawn and answered alike. What has
# matured is the reward of such a trial.
#
# They are counted first and sorted then: there are far fewer groups than decisions, which
# PostgreSQL does not expect.
COUNTED = """
WITH counted AS MATERIALIZED (
SELECT date_bin(%(width)s, d.decided_at, 'epoch'), d.arm_id, d.propensities, d.policy_version, {value}, count(*)
FROM serving_decision AS d LEFT JOIN serving_reward AS r
    ON r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = %(metric)s AND r.matured
    AND r.decided_at >= %(start)s AND r.decided_at < %(end)s
WHERE d.experiment_id = %(experiment)s AND d.decided_at >= %(start)s AND d.decided_at < %(end)s
AND d.trial AND d.fallback_reason IS NULL
GROUP BY 1, 2, 3, 4, 5
) SELECT * FROM counted ORDER BY 1, 2, 4, 5
"""


VALUE = "r.value"
ANSWERED = "CASE WHEN r.matured THEN 1::float8 END"


class Row(NamedTuple):
    """A matured decision with its reward."""

    arm_id: int
    propensities: list[float]  # by position
    value: float
    decided_at: datetime
    delay_seconds: float | None  # of feedback; None for a default reward
    context: str | None  # JSON, where the policy learns from it
    policy_version: int
    decision_id: UUID
    rewarded_arm_id: int  # the same, unless the decision is damaged
    excluded: list[int] | None  # arms, by id, that the request was not for


class Served(NamedTuple):
    """A decision whose bucket is closed, and whether it was answered."""

    arm_id: int
    propensities: list[float]
    decided_at: datetime
    policy_version: int
    answered: bool
    excluded: list[int] | None


class Counted(NamedTuple):
    """Decisions of a closed bucket that are alike."""

    decided_at: datetime  # the bucket's start
    arm_id: int
    propensities: list[float]
    policy_version: int
    value: float | None  # or 1 for any; None where nobody answered
    decisions: int


Decided = TypeVar("Decided", Row, Served, Counted)
