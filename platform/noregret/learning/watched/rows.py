"""The ledger's rows of what is watched, piece by piece: no step reads more than PIECE of them."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from noregret.experiments.models import Experiment

PIECE = 50_000
"""So many rows are read for one step through what was there before a watch."""

SUMMED = """
SELECT arm_id, value FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND decided_at >= %(start)s AND decided_at < %(end)s
    AND summed AND NOT late
"""
NTH_VALUE = """
SELECT decided_at FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND decided_at >= %(start)s
ORDER BY decided_at OFFSET %(n)s LIMIT 1
"""
NTH_DECISION = """
SELECT decided_at FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s ORDER BY decided_at OFFSET %(n)s LIMIT 1
"""


def end_of_piece(query: str, experiment: Experiment, metric: str, start: datetime) -> datetime | None:
    """The time of the first row after PIECE of them; None where there are fewer. Rows of one
    instant stay together."""
    asked: dict[str, Any] = {"experiment": experiment.pk, "metric": metric, "start": start, "n": PIECE}
    with connection.cursor() as cursor:
        cursor.execute(query, asked)
        row = cursor.fetchone()
        if row is None or row[0] > start:
            return None if row is None else row[0]
        cursor.execute(query, asked | {"start": start + timedelta(microseconds=1), "n": 0})
        row = cursor.fetchone()
    return None if row is None else row[0]


def rows_between(
    query: str, experiment: Experiment, metric: str, start: datetime, end: datetime, **asked: Any
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, asked | {"experiment": experiment.pk, "metric": metric, "start": start, "end": end})
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
