"""Sums that an earlier version made by other rules are made anew from the ledger, experiment by experiment, by whoever learns next.

No migration does it: one statement over a large ledger would hold up a running system, and a worker of the version before may
still be at work while it runs.
"""

import structlog
from django.db.models import QuerySet

from noregret.experiments.models import Experiment

from .models import ExperimentEvidence
from .rebuild import rebuild
from .weighing import RULES

log = structlog.get_logger(__name__)


def out_of_date() -> QuerySet[Experiment]:
    """Experiments that began, ended ones too, whose sums are of older rules: what is shown and checked of them would be wrong."""
    return Experiment.objects.filter(started_at__isnull=False, evidence__rules__lt=RULES)


def bring_up_to_date(experiment: Experiment) -> None:
    """Make an experiment's sums anew if they are of older rules. Called under the endpoint's lock."""
    if not ExperimentEvidence.objects.filter(experiment=experiment, rules__lt=RULES).exists():
        return
    rebuild(experiment, write=True)
    log.info("sums made anew by the present rules", experiment=experiment.name)
