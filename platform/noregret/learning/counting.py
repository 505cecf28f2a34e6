"""What is counted of an experiment's decisions in the ledger, for its sums (noregret.learning.sums)
when they are computed anew."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.backends.utils import CursorWrapper

from noregret.experiments.models import Experiment

from .sums import NEWEST, Sums, newest

_NEWEST_AT_FIRST = 4
"""So many times as many decisions as arms need are looked at before all are."""

_COUNTED = """
SELECT holdout, proposed_arm_id, count(*)::bigint FROM serving_decision
WHERE experiment_id = %(experiment)s AND arm_id = ANY(%(arms)s) AND decided_at >= %(start)s AND decided_at < %(end)s
GROUP BY holdout, proposed_arm_id
"""
# The newest of all are nearly always all that is needed; of an arm that has too few among them, all
# are looked at. All that were decided at that very instant are among them.
_NEWEST_FROM = """
SELECT decided_at FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s
ORDER BY decided_at DESC OFFSET %(few)s LIMIT 1
"""
_NEWEST = """
SELECT arm_id, CASE WHEN failed THEN -at ELSE at END FROM (
    SELECT arm_id, fallback_reason IS NOT NULL AS failed, (extract(epoch FROM decided_at) * 1000000)::bigint AS at,
        row_number() OVER (PARTITION BY arm_id ORDER BY decided_at DESC, fallback_reason IS NOT NULL DESC) AS place
    FROM serving_decision
    WHERE experiment_id = %(experiment)s AND arm_id = ANY(%(arms)s) AND decided_at >= %(start)s AND decided_at < %(end)s
        AND NOT cached
) AS placed WHERE place <= %(newest)s
"""


def counted_between(cursor: CursorWrapper, experiment: Experiment, start: datetime, end: datetime) -> Sums:
    """How the decisions from `start` to `end` fell on the sides, what an apprentice would have
    served, and which were each arm's newest."""
    arms = list(experiment.arms.values_list("pk", flat=True))
    asked: dict[str, Any] = {"experiment": experiment.pk, "arms": arms, "start": start, "end": end, "newest": NEWEST}
    cursor.execute(_COUNTED, asked)
    sides = [0, 0]
    choices: Counter[int] = Counter()
    for held_out, proposed, count in cursor.fetchall():
        sides[bool(held_out)] += count
        if proposed is not None:
            choices[proposed] += count
    return Sums((sides[0], sides[1]), choices, newest=_newest_between(cursor, asked))


def _newest_between(cursor: CursorWrapper, asked: Mapping[str, Any]) -> dict[int, tuple[int, ...]]:
    """By arm id, as `Sums.newest`."""
    cursor.execute(_NEWEST_FROM, {**asked, "few": _NEWEST_AT_FIRST * NEWEST * len(asked["arms"])})
    row = cursor.fetchone()
    times: dict[int, list[int]] = {}
    for start in (asked["start"],) if row is None else (row[0], asked["start"]):
        wanting = [arm for arm in asked["arms"] if len(times.get(arm, ())) < NEWEST]
        if not wanting:
            break
        times |= {arm: [] for arm in wanting}
        cursor.execute(_NEWEST, {**asked, "arms": wanting, "start": start})
        for arm, at in cursor.fetchall():
            times[arm].append(at)
    return {arm: newest(made) for arm, made in times.items() if made}
