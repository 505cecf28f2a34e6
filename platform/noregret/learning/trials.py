"""Marks the trials of decisions that came into the ledger before trials were marked as they
come."""

from django.db import connection, transaction

from noregret.experiments.models import Experiment

from .evidence import RULES, units_count_once
from .models import SUMS, ExperimentEvidence

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


def mark_trials(experiment: Experiment) -> None:
    """Mark them where the experiment's sums are of older rules; harmless where it was done
    before."""
    if not ExperimentEvidence.objects.filter(experiment=experiment, rules__lt=RULES).exists():
        return
    with transaction.atomic():
        # Locked, so that a drain beside this one waits: it would count its trials into sums that
        # are replaced.
        ExperimentEvidence.objects.defer(*SUMS).select_for_update().get(experiment=experiment)
        parameters = {"experiment": experiment.pk}
        with connection.cursor() as cursor:
            cursor.execute(_HELD_OUT, parameters)
            if units_count_once(experiment):
                cursor.execute(_FIRST_VISITS, parameters)
                cursor.execute(_NOT_FIRST, parameters)
            cursor.execute(_UNMARKED, parameters)
