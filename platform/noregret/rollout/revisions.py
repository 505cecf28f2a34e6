"""A draft's revision: whoever saw the one before is told that it is another by now."""

from django.db.models import F

from noregret.experiments.lifecycle import Status
from noregret.experiments.models import Experiment


def revised(experiment: Experiment) -> None:
    """Within the transaction that changes it; nothing where it is no draft any more."""
    Experiment.objects.filter(pk=experiment.pk, status=Status.DRAFT).update(revision=F("revision") + 1)
