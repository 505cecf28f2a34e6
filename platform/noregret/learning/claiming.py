"""Rewards are claimed to be learned by their mark, in the transaction that learns them: each once,
whoever else claims beside it."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection

BATCH = 20_000
WITHOUT_END = "infinity"

# The conditions stand twice: without them outside, rows would be looked for in the whole ledger and
# not in the index `reward_to_fold`.
_CLAIM = """
UPDATE serving_reward SET folded = true, summed = summed OR NOT %(watched)s
WHERE (decided_at, decision_id, metric) IN (
    SELECT decided_at, decision_id, metric FROM serving_reward
    WHERE experiment_id = %(number)s AND metric = %(metric)s AND NOT folded AND NOT late
    AND decided_at >= %(since)s AND decided_at < %(until)s::timestamptz
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
AND experiment_id = %(number)s AND NOT folded AND NOT late
AND decided_at >= %(since)s AND decided_at < %(until)s::timestamptz
RETURNING arm_id, decided_at, value, decision_id
"""


class Claimed(NamedTuple):
    """A reward that was claimed to be folded."""

    arm_id: int
    decided_at: datetime
    value: float
    decision_id: UUID


def claim(
    number: int, metric: str, since: datetime, until: datetime | str = WITHOUT_END, *, watched: bool = False
) -> list[Claimed]:
    """At most BATCH rewards of an experiment or a baseline, by its number in the ledger, of
    decisions in [since, until).

    What is `watched` is claimed for its sums apart (learning.watched.watching).
    """
    asked: dict[str, int | str | datetime] = {
        "number": number,
        "metric": metric,
        "since": since,
        "until": until,
        "watched": watched,
        "limit": BATCH,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, asked)
        return list(map(Claimed._make, cursor.fetchall()))
