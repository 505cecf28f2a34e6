"""What an apprentice's policy would have served, and how often that would have been right. Reads only."""

from collections.abc import Sequence
from typing import Any

from django.db import connection

from noregret.experiments.models import Arm, Experiment
from noregret.learning.clock import EARLIEST
from noregret.learning.models import ExperimentEvidence
from noregret.learning.scoring import scored_newest
from noregret.learning.sums import Sums

OPEN_DECISIONS = 1000
"""Of open buckets, which are not in the sums yet, so many of the newest decisions are scored as they stand."""


def apprentice(experiment: Experiment, arms: Sequence[Arm], sums: Sums | None) -> dict[str, Any] | None:
    """How often an apprentice would have served each arm, and the score of its choices; None where there is none, or no sums yet."""
    if not experiment.apprentice or sums is None:
        return None
    total = sum(sums.choices.values())
    closed = ExperimentEvidence.objects.values_list("closed_until", flat=True).get(experiment=experiment)
    with connection.cursor() as cursor:
        open_ones = scored_newest(cursor, experiment, closed or EARLIEST, OPEN_DECISIONS)
    return {
        "decisions": total,
        "shares": {arm.name: sums.choices.get(arm.pk, 0) / total if total else None for arm in arms},
        "outcomes": sums.scored.plus(open_ones).to_answer(),
    }
