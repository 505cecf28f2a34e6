"""Lets the sums of experiments that ended long ago stand for good, and takes away what was kept for
adding to them: a row a unit."""

from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, F, OuterRef

from noregret.experiments.models import Experiment
from serving.models import Reward

from . import clock
from .closing import AFTER_END
from .models import ExperimentEvidence, LedgerSums, UnitBase, UnitOutcomes

log = structlog.get_logger(__name__)

FINAL_AFTER = timedelta(days=7)
"""So long after its end an experiment's sums are final, its last bucket being closed and nothing
waiting: until then decisions may come that a web process kept on its disk."""


def finish() -> int:
    """Called now and then; how many experiments were finished."""
    waiting = Reward.objects.filter(experiment_id=OuterRef("pk"), folded=False, late=False)
    over = Experiment.objects.filter(
        ~Exists(waiting),
        ended_at__lt=clock.now() - FINAL_AFTER,
        evidence__closed_until__gte=F("ended_at") + AFTER_END,
        ledger_sums__final=False,
    )
    done = 0
    for experiment in over.order_by("pk"):
        with transaction.atomic():
            ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
            if LedgerSums.objects.filter(pk=experiment.pk, final=False).update(final=True):
                for rows in (UnitOutcomes, UnitBase):
                    rows.objects.filter(experiment_id=experiment.pk).delete()
                done += 1
                log.info("sums are final", experiment=experiment.name)
    return done
