"""What an arm has served itself, and what that says against making it champion.

A decision that the arm could not serve was answered by the champion (`fallback_reason`): it counts
as an attempt, never as service. Who acts by itself asks `unfit`; a person is refused only an arm
that has failed every time it was asked (`only_failed`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import F

from bandits.inference.limits import proportion_evidence
from noregret.experiments.models import Arm, Experiment
from serving.models import ShadowPrediction

from .models import ArmStatistics
from .summing import sums_of
from .sums import NEWEST
from .totals import INTERVAL_SECONDS, interval_start

RECENT = (10, NEWEST)
"""Over so many of its newest decisions an arm is looked at: the few show one that has just begun to
fail."""
FAILING = 0.1
"""An arm that is shown to fail in more than this share of them is not promoted by itself."""
_NEEDED = 20.0
ASKED_IN_VAIN = 20
"""After so many decisions an arm that has served none of them is not taken for one that may win."""

# Whole intervals from their sums, and what is left of the first one from the ledger: ten seconds of
# it, however long ago.
_SERVED = """
SELECT (SELECT coalesce(sum(decisions - failures), 0) FROM learning_arminterval
        WHERE arm_id = %(arm)s AND start >= %(whole)s)
    + (SELECT count(*) FROM serving_decision WHERE experiment_id = %(experiment)s AND arm_id = %(arm)s
        AND decided_at >= %(since)s AND decided_at < %(whole)s AND fallback_reason IS NULL)
"""
_REWARDED = """
SELECT (SELECT coalesce(sum(rewards), 0) FROM learning_arminterval WHERE arm_id = %(arm)s AND start >= %(whole)s)
    + (SELECT count(*) FROM serving_reward WHERE experiment_id = %(experiment)s AND metric = %(metric)s
        AND arm_id = %(arm)s AND decided_at >= %(since)s AND decided_at < %(whole)s AND folded AND NOT late)
"""


def served_since(experiment: Experiment, arm: Arm, since: datetime) -> int:
    """How many decisions made since then the arm itself has served."""
    return _count(_SERVED, experiment, arm, since=since)


def rewarded_since(experiment: Experiment, arm: Arm, since: datetime) -> int:
    """How many of the arm's decisions made since then have a reward."""
    return _count(_REWARDED, experiment, arm, since=since, metric=experiment.reward_.metric)


def _count(query: str, experiment: Experiment, arm: Arm, *, since: datetime, metric: str | None = None) -> int:
    whole = interval_start(since) + timedelta(seconds=INTERVAL_SECONDS)
    asked: dict[str, Any] = {"experiment": experiment.pk, "arm": arm.pk, "since": since}
    asked |= {"whole": whole, "metric": metric}
    with connection.cursor() as cursor:
        cursor.execute(query, asked)
        return int(cursor.fetchone()[0])


def that_only_fail(arms: Sequence[Arm]) -> set[int]:
    """The ids of those that were asked often and have served nothing."""
    asked = ArmStatistics.objects.filter(arm__in=arms, decisions__gte=ASKED_IN_VAIN, failures__gte=F("decisions"))
    return set(asked.values_list("arm_id", flat=True))


def only_failed(arm: Arm) -> str:
    """Why an arm that has served nothing but failures can't become champion; empty for any other,
    one that was never asked too."""
    row = ArmStatistics.objects.filter(arm=arm).first()
    if row is not None and row.decisions:
        if row.failures < row.decisions:
            return ""
        return f"{arm.name} has failed in each of its {row.decisions:,} decisions"
    mirrored = ShadowPrediction.objects.filter(experiment_id=arm.experiment_id, arm_id=arm.pk)
    if mirrored.exists() and not mirrored.filter(error__isnull=True).exists():
        return f"{arm.name} has failed in each of its {mirrored.count():,} predictions"
    return ""


def unfit(experiment: Experiment, arm: Arm) -> str:
    """Why an arm is not promoted or advanced by itself, in a sentence; empty where nothing stands
    against it."""
    sums = sums_of(experiment)
    if sums is None:
        return f"what {arm.name} served lately is being summed up"
    failed = sums.failed(arm.pk)
    row = ArmStatistics.objects.filter(arm=arm).first()
    if row is None or row.failures >= row.decisions:
        return f"{arm.name} has served no decision" if not failed else f"{arm.name} has failed in every decision"
    for count in RECENT:
        newest = failed[:count]
        if newest and proportion_evidence(sum(newest), len(newest), FAILING) >= _NEEDED:
            return f"{arm.name} failed in {sum(newest)} of its last {len(newest)} decisions"
    return ""
