"""Sums that an earlier version made by other rules are made anew from the ledger, experiment by experiment, by whoever learns next.

No migration does it: one statement over a large ledger would hold up a running system, and a worker of the version before may
still be at work while it runs.
"""

import structlog
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from noregret.experiments.models import Experiment

from . import resumming
from .models import ExperimentEvidence, LedgerSums
from .rebuild import days_of, rebuild_held
from .weighing import RULES, units_count_once

log = structlog.get_logger(__name__)

_FIRST_VISITS = """
INSERT INTO serving_firstvisit (experiment_id, unit, decision_id)
SELECT DISTINCT ON (unit) experiment_id, unit, id FROM serving_decision
WHERE experiment_id = %(experiment)s AND unit IS NOT NULL AND NOT holdout AND proposed_arm_id IS NULL
ORDER BY unit, decided_at, id
ON CONFLICT (experiment_id, unit) DO UPDATE SET decision_id = EXCLUDED.decision_id
"""
_HELD_OUT = "UPDATE serving_decision SET trial = false WHERE experiment_id = %(experiment)s AND trial AND holdout"
_NOT_FIRST = """
UPDATE serving_decision AS d SET trial = false
FROM serving_firstvisit AS first
WHERE d.experiment_id = %(experiment)s AND d.trial AND d.unit IS NOT NULL AND d.proposed_arm_id IS NULL
AND first.experiment_id = d.experiment_id AND first.unit = d.unit AND first.decision_id <> d.id
"""
# Of a unit that counts once, the first decision alone is evidence; of a held-out one, none.
_UNMARKED = """
UPDATE serving_reward AS r SET matured = false
FROM serving_decision AS d
WHERE r.experiment_id = %(experiment)s AND r.matured AND d.experiment_id = r.experiment_id
AND d.decided_at = r.decided_at AND d.id = r.decision_id AND NOT d.trial
"""


def out_of_date() -> QuerySet[Experiment]:
    """Experiments that began, ended ones too, whose sums are of older rules or not made yet: what is told of them would be wrong."""
    old = Q(evidence__rules__lt=RULES) | Q(ledger_sums__isnull=True)
    return Experiment.objects.filter(old, started_at__isnull=False)


def bring_up_to_date(experiment: Experiment) -> None:
    """Mark the trials of an experiment whose sums are of older rules, and make the sums anew. Called under the endpoint's lock."""
    if not ExperimentEvidence.objects.filter(experiment=experiment, rules__lt=RULES).exists():
        if not LedgerSums.objects.filter(experiment=experiment).exists():
            _sum_up(experiment)
        return
    with transaction.atomic():
        # Locked, so that a drain beside this one waits: it would count its trials into sums that are replaced.
        ExperimentEvidence.objects.select_for_update().get(experiment=experiment)
        parameters = {"experiment": experiment.pk}
        with connection.cursor() as cursor:
            cursor.execute(_HELD_OUT, parameters)
            if units_count_once(experiment):
                cursor.execute(_FIRST_VISITS, parameters)
                cursor.execute(_NOT_FIRST, parameters)
            cursor.execute(_UNMARKED, parameters)
    rebuild_held(experiment)
    log.info("sums made anew by the present rules", experiment=experiment.name)


def _sum_up(experiment: Experiment) -> None:
    """Make the sums that results are told from: those that the evidence is made of are there, and stay."""
    with transaction.atomic():
        resumming.make(experiment, days_of(experiment))
    log.info("sums over the ledger made", experiment=experiment.name)
