"""What the learner adds to an experiment's sums while a rebuild computes them: noted, so that the
rebuild adds it and nobody waits.

A rebuild puts its token on the experiment's evidence and then reads the ledger in one snapshot of
the database. Every transaction of the learner locks that row before it adds anything: one that
commits after the token sees it, and notes what it adds in the same transaction. A note that the
snapshot sees is of rows that it sees too; the others are added to what was computed.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Max

from noregret.experiments.models import Experiment
from serving.models import Reward

from . import clock
from .buckets import bucket_width, floor_to_bucket
from .evidence import RULES
from .models import SUMS, Addition, ArmStatistics, ExperimentEvidence

NOTED_FOR = timedelta(hours=12)
"""A rebuild that takes longer is given up: one that was killed must not have the learner take notes
for ever."""


def begin(experiment: Experiment) -> UUID:
    """Have the learner take notes from now on; the token that `is_noted_for` asks for. In a
    transaction.

    What was lost with its row begins empty: the learner could add to nothing else.
    """
    arms = experiment.arms.exclude(pk__in=ArmStatistics.objects.values("arm_id"))
    ArmStatistics.objects.bulk_create([ArmStatistics(arm=arm) for arm in arms], ignore_conflicts=True)
    ExperimentEvidence.objects.defer(*SUMS).get_or_create(
        experiment=experiment, defaults={"rules": RULES, "closed_until": _last_closed(experiment)}
    )
    held = ExperimentEvidence.objects.defer(*SUMS).select_for_update().get(experiment=experiment)
    token = uuid4()
    ExperimentEvidence.objects.filter(pk=held.pk).update(noted_for=token, noted_since=clock.now())
    Addition.objects.filter(experiment=experiment).delete()
    return token


def end(experiment: Experiment, token: UUID) -> None:
    """Take no more notes for this rebuild, and throw its own away. In a transaction."""
    if ExperimentEvidence.objects.filter(experiment=experiment, noted_for=token).update(
        noted_for=None, noted_since=None
    ):
        Addition.objects.filter(experiment=experiment).delete()


def is_noted_for(held: ExperimentEvidence, token: UUID) -> bool:
    """Has everything that was added since `begin` been noted for this rebuild?"""
    return held.noted_for == token and _is_noted(held)


def note(held: ExperimentEvidence, name: str, document: Any) -> None:
    """Called by whoever adds to the sum `name`, in the same transaction, with the evidence row
    locked."""
    if held.noted_for is not None and _is_noted(held):
        Addition.objects.create(experiment_id=held.experiment_id, sum=name, document=document)


def _is_noted(held: ExperimentEvidence) -> bool:
    return held.noted_since is not None and clock.now() - held.noted_since < NOTED_FOR


def _last_closed(experiment: Experiment) -> datetime | None:
    """Until when buckets are known to be closed where that was lost: up to the last marked reward,
    or it would bear no mark."""
    marked = Reward.objects.filter(experiment_id=experiment.pk, metric=experiment.reward_.metric, matured=True)
    last = marked.aggregate(last=Max("decided_at"))["last"]
    if last is None:
        return None
    width = bucket_width(experiment.reward_.window_seconds)
    return floor_to_bucket(last, width) + width
