"""What an apprentice's policy would have served, and how often that would have been right. Reads
only."""

from collections.abc import Sequence

from msgspec import Struct

from noregret.experiments.models import Arm, Experiment
from noregret.learning.clock import EARLIEST
from noregret.learning.models import ExperimentEvidence
from noregret.learning.scoring import scored_newest
from noregret.learning.sums import Scored, Sums
from noregret.rest.replica import where_read

OPEN_DECISIONS = 1000
"""Of open buckets, which are not in the sums yet, so many of the newest decisions are scored as
they stand."""


class ChoicesScored(Struct, frozen=True):
    """How often the policy's choices and the control would have been right."""

    count: int
    accuracy: float | None
    control_accuracy: float | None


class Apprentice(Struct, frozen=True):
    """What the policy would have served, and how right it would have been where the truth was
    told."""

    decisions: int
    shares: dict[str, float | None]
    outcomes: ChoicesScored | None


def apprentice(experiment: Experiment, arms: Sequence[Arm], sums: Sums | None) -> Apprentice | None:
    """How often an apprentice would have served each arm, and the score of its choices; None where
    there is none, or no sums yet."""
    if not experiment.apprentice or sums is None:
        return None
    total = sum(sums.choices.values())
    closed = ExperimentEvidence.objects.values_list("closed_until", flat=True).get(experiment=experiment)
    with where_read().cursor() as cursor:
        open_ones = scored_newest(cursor, experiment, closed or EARLIEST, OPEN_DECISIONS)
    return Apprentice(
        decisions=total,
        shares={arm.name: sums.choices.get(arm.pk, 0) / total if total else None for arm in arms},
        outcomes=_told(sums.scored.plus(open_ones)),
    )


def _told(scored: Scored) -> ChoicesScored | None:
    """None where nothing was scored."""
    if not scored.decisions:
        return None
    return ChoicesScored(
        count=scored.decisions,
        accuracy=scored.right / scored.judged if scored.judged else None,
        control_accuracy=scored.control_right / scored.decisions,
    )
