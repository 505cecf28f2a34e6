"""Sums that an earlier version made by other rules are made anew from the ledger, experiment by
experiment, by whoever learns next.

No migration does it: one statement over a large ledger would hold up a running system, and a worker
of the version before may still be at work while it runs.
"""

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet

from noregret.experiments.models import Experiment

from . import resumming
from .evidence import RULES
from .models import ExperimentEvidence, LedgerSums
from .rebuild import rebuild
from .unpublished import Learned, note

log = structlog.get_logger(__name__)


def out_of_date() -> QuerySet[Experiment]:
    """Experiments that began, ended ones too, whose sums are of older rules or not made yet: what
    is told of them would be wrong."""
    old = Q(evidence__rules__lt=RULES) | Q(ledger_sums__isnull=True)
    return Experiment.objects.filter(old, started_at__isnull=False)


def bring_up_to_date(experiment: Experiment, learned: Learned = note) -> None:
    """Make an experiment's sums anew if they are of older rules. Called under the endpoint's
    lock."""
    if ExperimentEvidence.objects.filter(experiment=experiment, rules__lt=RULES).exists():
        rebuild(experiment, write=True, learned=learned)
        log.info("sums made anew by the present rules", experiment=experiment.name)
    elif not LedgerSums.objects.filter(experiment=experiment).exists():
        with transaction.atomic():
            resumming.make(experiment)
        log.info("sums over the ledger made", experiment=experiment.name)
