"""For which experiments something can still be learned: conditions on their rows, asked of the
database. Reads only."""

from datetime import timedelta

from django.db.models import F, Q
from django.db.models.query import QuerySet

from noregret.experiments.models import Experiment
from serving.models import Reward

from . import clock
from .closing import AFTER_END
from .watched.watches import OUTCOME


def unsettled() -> QuerySet[Experiment]:
    """Experiments whose buckets are not all closed: those that are going on, and ended ones until
    their windows are over."""
    begun = Experiment.objects.filter(started_at__isnull=False)
    return begun.filter(
        Q(ended_at__isnull=True)
        | Q(evidence__closed_until__isnull=True)
        | Q(evidence__closed_until__lt=F("ended_at") + AFTER_END)
    )


def unscored() -> QuerySet[Experiment]:
    """Experiments with copies that were told what was true since their last round: labels come long
    after windows, and after the end."""
    mirrored = Q(strategy=Experiment.Strategy.SHADOW) | Q(apprentice=True)
    recent = Q(ended_at__isnull=True) | Q(ended_at__gt=clock.now() - timedelta(days=92))
    begun = Experiment.objects.filter(mirrored, recent, started_at__isnull=False).exclude(reward__metric=OUTCOME)
    waiting = Reward.objects.filter(metric=OUTCOME, summed=False)
    # One by one: for all of them at once the database would look into every day that it has.
    told = [
        pk
        for pk, started_at in begun.values_list("pk", "started_at")
        if started_at is not None
        and waiting.filter(experiment_id=pk, decided_at__gte=started_at - timedelta(days=1)).exists()
    ]
    return Experiment.objects.filter(pk__in=told)


def not_gone_through() -> QuerySet[Experiment]:
    """Experiments, ended ones too, of which not everything is in the sums that an earlier version
    did not keep."""
    return Experiment.objects.filter(started_at__isnull=False, evidence__gone_through=False)


LEARNED_AT_ONCE = Q(reward__default=None) | Q(reward__pending="exposure")
"""noregret.experiments.rewards.learned_when_matured, the other way round, for rows of
experiments."""
