"""Rows of the ledger that buckets are closed with: as they are read, live and in a rebuild."""

from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

ROW_COLUMNS = """
d.arm_id, d.propensities, r.value, d.decided_at,
CASE WHEN r.defaulted THEN NULL ELSE extract(epoch FROM r.recorded_at - r.decided_at)::float8 END,
CASE WHEN %(with_context)s THEN d.context::text END, d.policy_version, d.id, d.excluded
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
    excluded: list[int] | None  # arms, by id, that the request was not for


class Served(NamedTuple):
    """A decision whose bucket is closed, and whether it was answered."""

    arm_id: int
    propensities: list[float]
    decided_at: datetime
    policy_version: int
    answered: bool
    excluded: list[int] | None


Decided = TypeVar("Decided", Row, Served)
