"""How often an apprentice's choices would have been right, on what feedback on the metric `outcome`
said was true. Reads only.

Feedback that came after the window is none: of a bucket that is closed nothing can become known but
by a copy that is predicted on late, or a decision that comes late.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper

from noregret.experiments.models import Experiment
from serving.feedback import MAX_VALUE

from .models import ExperimentEvidence
from .sums import Scored

Listed = Sequence[tuple[UUID, datetime]]
"""Decisions: (id, decided at)."""
_MICROSECOND = timedelta(microseconds=1)

# Of each decision the prediction of the arm that the policy chose: a challenger's own, or else the
# control's, which any row has. Requests of one row are scored.
_SCORED = """
SELECT count(*)::bigint, count(right_choice)::bigint, count(*) FILTER (WHERE right_choice)::bigint,
    count(*) FILTER (WHERE right_control)::bigint
FROM (
    SELECT DISTINCT ON (d.id)
        CASE WHEN s.arm_id = d.proposed_arm_id THEN (s.predicted ->> 0)::float8
             WHEN d.proposed_arm_id = d.arm_id THEN (s.champion_predicted ->> 0)::float8 END = r.value AS right_choice,
        (s.champion_predicted ->> 0)::float8 = r.value AS right_control
    FROM (
        SELECT id, decided_at, arm_id, proposed_arm_id FROM serving_decision
        WHERE experiment_id = %(experiment)s AND proposed_arm_id IS NOT NULL
            AND decided_at >= %(start)s AND decided_at < %(end)s {chosen}
    ) AS d
    JOIN serving_shadowprediction AS s ON s.decided_at = d.decided_at AND s.decision_id = d.id
    JOIN serving_reward AS r ON r.decided_at = d.decided_at AND r.decision_id = d.id AND r.metric = 'outcome'
    WHERE NOT r.late AND abs(r.value) <= %(most)s AND r.decided_at >= %(start)s AND r.decided_at < %(end)s
        AND s.experiment_id = %(experiment)s AND s.decided_at >= %(start)s AND s.decided_at < %(end)s
        AND jsonb_array_length(s.champion_predicted) = 1 AND jsonb_typeof(s.champion_predicted -> 0) = 'number'
        AND (s.predicted IS NULL OR jsonb_typeof(s.predicted -> 0) = 'number')
    ORDER BY d.id, (s.arm_id = d.proposed_arm_id) DESC
) AS scored
"""


def scored_between(cursor: CursorWrapper, experiment: Experiment, start: datetime, end: datetime) -> Scored:
    """The score of the choices at decisions from `start` to `end`."""
    return _scored(cursor, experiment, "", {"start": start, "end": end})


_NEWEST = """
SELECT min(decided_at), max(decided_at) FROM (
    SELECT decided_at FROM serving_decision
    WHERE experiment_id = %(experiment)s AND proposed_arm_id IS NOT NULL AND decided_at >= %(since)s
    ORDER BY decided_at DESC LIMIT %(most)s
) AS newest
"""


def scored_newest(cursor: CursorWrapper, experiment: Experiment, since: datetime, most: int) -> Scored:
    """The score of the choices at the newest decisions since then."""
    cursor.execute(_NEWEST, {"experiment": experiment.pk, "since": since, "most": most})
    first, last = cursor.fetchone()
    return Scored() if first is None else scored_between(cursor, experiment, first, last + _MICROSECOND)


def scored_of(cursor: CursorWrapper, experiment: Experiment, decisions: Listed) -> Scored:
    """The score of the choices at these decisions."""
    if not decisions:
        return Scored()
    times = [at for _, at in decisions]
    listed = {"ids": [identity for identity, _ in decisions], "times": times}
    chosen = "AND (decided_at, id) IN (SELECT * FROM unnest(%(times)s::timestamptz[], %(ids)s::uuid[]))"
    return _scored(cursor, experiment, chosen, {"start": min(times), "end": max(times) + _MICROSECOND, **listed})


def _scored(cursor: CursorWrapper, experiment: Experiment, chosen: str, parameters: Mapping[str, Any]) -> Scored:
    # A truth that is no number that could have been predicted scores nothing: it is set aside where
    # it is the reward, too.
    cursor.execute(_SCORED.format(chosen=chosen), {"experiment": experiment.pk, "most": MAX_VALUE, **parameters})
    return Scored(*cursor.fetchone())


def scored_late(experiment: Experiment, decisions: Listed) -> Scored:
    """The score of the choices at those of these decisions whose bucket is closed; locks the
    evidence for the caller's transaction.

    Whoever adds predictions asks before and after, and adds the difference (summing.add_scored).
    """
    closed = ExperimentEvidence.objects.select_for_update().get(experiment=experiment).closed_until
    late = [] if closed is None else [decision for decision in decisions if decision[1] < closed]
    with connection.cursor() as cursor:
        return scored_of(cursor, experiment, late)
