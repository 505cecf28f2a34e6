"""One round of learning for one endpoint: drain, fold, mature, act, publish. Every step may be repeated without harm."""

from datetime import timedelta

import structlog
from django.db.models import Q
from django.utils import timezone

from noregret.experiments.models import Endpoint, Experiment
from noregret.experiments.publish import publish_endpoint

from .drain import drain
from .fold import fold
from .locks import endpoint_lock
from .mature import mature
from .promotion import act

log = structlog.get_logger(__name__)

# An automatic decision needs statistics that lack nothing older than this.
FRESH_SECONDS = 10.0
_LONGEST_WINDOW = timedelta(days=91)


def learn(endpoint_id: int) -> bool:
    """Do a round; False when another worker is at it. Raises redis.RedisError when Redis is away."""
    with endpoint_lock(endpoint_id) as held:
        if not held:
            return False
        endpoint = Endpoint.objects.filter(pk=endpoint_id).first()
        if endpoint is None:
            return True
        drained = drain(endpoint)
        changed = False
        for experiment in _learning(endpoint):
            folded = fold(experiment)
            changed |= folded > 0 and experiment.status == Experiment.Status.RUNNING
            if experiment.status in {Experiment.Status.RUNNING, Experiment.Status.PAUSED}:
                mature(experiment, drained.until)
                fold(experiment)  # default rewards that maturing gave
                fresh = (timezone.now() - drained.until).total_seconds() <= FRESH_SECONDS
                if fresh and act(experiment):
                    changed = False  # the transition published
        if changed:
            publish_endpoint(endpoint_id)
        return True


def _learning(endpoint: Endpoint) -> list[Experiment]:
    """The endpoint's experiments whose rewards may still come."""
    begun = endpoint.experiments.filter(started_at__isnull=False)
    recent = begun.filter(Q(ended_at__isnull=True) | Q(ended_at__gt=timezone.now() - _LONGEST_WINDOW))
    return list(recent.select_related("endpoint", "promoted_arm").order_by("pk"))
