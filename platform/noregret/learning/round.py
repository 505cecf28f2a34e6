"""One round of learning for one endpoint: drain, mature, fold, publish, act. Every step may be repeated, and publishes what it changed."""

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from noregret.experiments.models import Endpoint, Experiment
from serving.models import Reward

from . import clock
from .coarsening import coarsen
from .drain import Drained, drain
from .fold import fold
from .locks import endpoint_lock
from .mature import mature
from .models import ExperimentEvidence
from .pending import LEARNED_AT_ONCE, not_gone_through, unscored, unsettled
from .promotion import act
from .publishing import catch_up
from .upgrade import bring_up_to_date
from .watching import keep_up

log = structlog.get_logger(__name__)

# An automatic decision needs statistics that lack nothing older than this.
FRESH_SECONDS = 10.0


def learn(endpoint_id: int) -> bool:
    """Do a round; False when another worker is at it. Raises redis.RedisError when Redis is away.

    What goes wrong with one experiment of the endpoint does not keep the others from learning; then it is raised.
    """
    with endpoint_lock(endpoint_id) as held:
        if not held:
            return False
        endpoint = Endpoint.objects.filter(pk=endpoint_id).first()
        if endpoint is None:
            return True
        drained = drain(endpoint)
        problems: list[Exception] = []
        for experiment in _learning(endpoint):
            try:
                _learn(experiment, drained)
            except Exception as error:
                log.exception("experiment not learned", endpoint=endpoint.name, experiment=experiment.name)
                problems.append(error)
        if problems:
            raise ExceptionGroup(f"endpoint {endpoint.name}", problems)
        return True


def _learn(experiment: Experiment, drained: Drained) -> None:
    bring_up_to_date(experiment)
    mature(experiment, drained.until)
    fold(experiment)
    with transaction.atomic():
        catch_up(experiment)
    # After what traffic waits for; before what acts on it.
    summed, merged = keep_up(experiment, drained.until), coarsen(experiment)
    through = summed and merged
    ExperimentEvidence.objects.filter(experiment=experiment).exclude(gone_through=through).update(gone_through=through)
    if (clock.now() - drained.until).total_seconds() <= FRESH_SECONDS:
        act(experiment)


def _learning(endpoint: Endpoint) -> list[Experiment]:
    """The endpoint's experiments for which something can still come in, oldest first."""
    waiting = Reward.objects.filter(experiment_id=OuterRef("pk"), folded=False, late=False)
    matured = waiting.filter(decided_at__lt=OuterRef("evidence__closed_until"))
    found = Experiment.objects.filter(
        Q(pk__in=unsettled())
        | Q(pk__in=unscored())
        | Q(pk__in=not_gone_through())
        | Q(LEARNED_AT_ONCE, Exists(waiting))
        | Exists(matured),
        endpoint=endpoint,
    )
    return list(found.select_related("endpoint", "promoted_arm").order_by("pk"))
