"""What learning does when it knows something new: it tells whoever called, in the transaction that
learns, and publishes nothing itself."""

from collections.abc import Callable

from noregret.experiments.models import Experiment

from .models import ExperimentEvidence

Learned = Callable[[Experiment], None]
"""Called in the transaction in which something new became known of an experiment."""


def note(experiment: Experiment) -> None:
    """Where the caller publishes nothing: the endpoint's next round sees that traffic waits for
    what is known."""
    ExperimentEvidence.objects.filter(experiment=experiment).update(unpublished=True)
