"""What of an experiment's ledger is in no sum, and why: what waits for longer than it should, and
what was set aside. Reads only.

A comparison of the sums with the marked rows (rebuild) does not see these: they bear no mark.
"""

from datetime import timedelta
from typing import Any

from django.db import connection

from noregret.experiments.models import Experiment
from noregret.experiments.rewards import learned_when_matured

from . import clock, quarantine
from .buckets import GRACE_SECONDS
from .closing import ENDED_PAUSE, is_closed_until
from .models import SUMS, ExperimentEvidence

LONGEST_WAIT = timedelta(seconds=60)

_REWARDS = """
SELECT count(*) FROM serving_reward
WHERE experiment_id = %(experiment)s AND metric = %(metric)s AND NOT folded AND NOT late
AND decided_at < %(until)s::timestamptz AND recorded_at < %(before)s
"""
_DECISIONS = """
SELECT count(*) FROM serving_decision
WHERE experiment_id = %(experiment)s AND decided_at >= %(start)s AND decided_at < %(end)s
"""


def unlearned(experiment: Experiment) -> list[str]:
    """A sentence for each kind of rows that were not learned, with how many there are."""
    held = ExperimentEvidence.objects.defer(*SUMS).filter(experiment=experiment).first()
    if held is None:
        return []  # a rebuild tells that, and then there is one
    before = clock.now() - LONGEST_WAIT - (timedelta(0) if experiment.ended_at is None else ENDED_PAUSE)
    closed = is_closed_until(experiment, held)
    window = timedelta(seconds=experiment.reward_.window_seconds + GRACE_SECONDS)
    parameters: dict[str, Any] = {
        "experiment": experiment.pk,
        "metric": experiment.reward_.metric,
        "until": min(closed, before - window) if learned_when_matured(experiment.reward_) else "infinity",
        "before": before,
        "start": closed,
        "end": before - window,
    }
    with connection.cursor() as cursor:
        cursor.execute(_REWARDS, parameters)
        rewards = int(cursor.fetchone()[0])
        cursor.execute(_DECISIONS, parameters)
        decisions = int(cursor.fetchone()[0])
    seconds = int(LONGEST_WAIT.total_seconds())
    found = []
    if rewards:
        found.append(f"{rewards:,} rewards have waited to be learned for more than {seconds} s")
    if decisions:
        found.append(
            f"{decisions:,} decisions, whose windows have been over for more than {seconds} s, wait to be weighed"
        )
    return found + [
        f"{count:,} {kind} were set aside: {problem}" for kind, problem, count in quarantine.reasons(experiment.name)
    ]
