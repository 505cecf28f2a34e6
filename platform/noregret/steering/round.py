"""One round of learning for one endpoint: drain, mature, fold, publish, act. Every step may be
repeated, and publishes what it changed."""

from collections.abc import Callable
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from noregret.experiments.models import Endpoint, Experiment
from noregret.learning import baselines, clock
from noregret.learning.coarsening import coarsen
from noregret.learning.drain import Drained, drain
from noregret.learning.fold import fold
from noregret.learning.locks import LeaseLost, endpoint_lock
from noregret.learning.mature import mature
from noregret.learning.models import ExperimentEvidence
from noregret.learning.standing_history import note
from noregret.learning.unfinished import LEARNED_AT_ONCE, not_gone_through, unscored, unsettled
from noregret.learning.upgrade import bring_up_to_date, out_of_date
from noregret.learning.watched.watching import claim_all, keep_up
from noregret.rollout.publish import publish_experiment_on_commit
from serving.models import Reward

from .promotion import act, guard
from .publishing import catch_up, learned

log = structlog.get_logger(__name__)

# An automatic decision needs statistics that lack nothing older than this.
FRESH_SECONDS = 10.0


def learn(endpoint_id: int) -> bool:
    """Do a round; False when another worker is at it.

    What goes wrong with the stream, or with one experiment of the endpoint, does not keep the
    others from learning; then it is raised: a redis.RedisError when Redis is away, an
    ExceptionGroup for anything else.
    """
    with endpoint_lock(endpoint_id) as held:
        if not held:
            return False
        endpoint = Endpoint.objects.filter(pk=endpoint_id).first()
        if endpoint is None:
            return True
        problems: list[Exception] = []
        drained: Drained | None = None
        try:
            drained = drain(endpoint)
        except LeaseLost:
            return _taken_over(endpoint)
        except Exception as error:
            log.warning("stream not drained", endpoint=endpoint.name, error=repr(error))
            problems.append(error)
        try:
            baselines.fold(endpoint_id)
        except LeaseLost:
            return _taken_over(endpoint)
        except Exception as error:
            log.exception("baseline not learned", endpoint=endpoint.name)
            problems.append(error)
        for experiment in _learning(endpoint):
            try:
                problems.extend(_learn(experiment, drained))
            except LeaseLost:
                return _taken_over(endpoint)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise ExceptionGroup(f"endpoint {endpoint.name}", problems)
        return True


def _taken_over(endpoint: Endpoint) -> bool:
    log.warning("another learner took over", endpoint=endpoint.name)
    return False


def _learn(experiment: Experiment, drained: Drained | None) -> list[Exception]:
    """Learn and act for one experiment; what went wrong.

    Guardrails act on what is in the ledger, however much is not there yet and whatever could not be
    learned: waiting would serve the worse arm. What asks for all the evidence waits for it. Raises
    LeaseLost.
    """
    problems: list[Exception] = []

    def attempt(step: Callable[[], object], failure: str) -> None:
        try:
            step()
        except LeaseLost:
            raise
        except Exception as error:
            log.exception(failure, endpoint=experiment.endpoint.name, experiment=experiment.name)
            problems.append(error)

    attempt(lambda: _take_in(experiment, drained), "experiment not learned")
    # After what traffic waits for; before what acts on it.
    attempt(lambda: _sum_up(experiment, drained), "sums not kept up")
    fresh = drained is not None and (clock.now() - drained.until).total_seconds() <= FRESH_SECONDS
    attempt(lambda: (act if fresh and not problems else guard)(experiment), "experiment not acted on")
    # Last: a picture for people, without which everything goes on.
    attempt(lambda: note(experiment), "standing not noted")
    return problems


def _take_in(experiment: Experiment, drained: Drained | None) -> None:
    bring_up_to_date(experiment, publish_experiment_on_commit)
    claim_all(experiment)  # before closed buckets move on: no value behind them is looked for
    if drained is not None:  # or nobody knows which buckets are complete
        mature(experiment, drained.until)
    fold(experiment, learned)
    with transaction.atomic():
        catch_up(experiment)


def _sum_up(experiment: Experiment, drained: Drained | None) -> None:
    summed, merged = keep_up(experiment, None if drained is None else drained.until), coarsen(experiment)
    through = summed and merged
    ExperimentEvidence.objects.filter(experiment=experiment).exclude(gone_through=through).update(gone_through=through)


def _learning(endpoint: Endpoint) -> list[Experiment]:
    """The endpoint's experiments for which something can still come in, oldest first; one of older
    rules is brought up to date."""
    of_endpoint = Experiment.objects.filter(endpoint=endpoint)
    going_on = of_endpoint.filter(
        Q(pk__in=unsettled()) | Q(pk__in=out_of_date()) | Q(pk__in=unscored()) | Q(pk__in=not_gone_through())
    )
    known = {*going_on.values_list("pk", flat=True)}
    ended = of_endpoint.filter(ended_at__gt=timezone.now() - timedelta(days=92)).exclude(pk__in=known)
    found = of_endpoint.filter(pk__in=known | _with_rewards(ended))
    return list(found.select_related("endpoint", "promoted_arm").order_by("pk"))


def _with_rewards(experiments: QuerySet[Experiment]) -> set[int]:
    """Those with rewards that can be folded.

    One by one, each from its own day on: for all of them at once the database would plan for every
    day that it has.
    """
    at_once = {*experiments.filter(LEARNED_AT_ONCE).values_list("pk", flat=True)}
    ends = experiments.filter(started_at__isnull=False).values_list(
        "pk", Coalesce("evidence__folded_until", F("started_at") - timedelta(days=1)), "evidence__closed_until"
    )
    found: set[int] = set()
    for pk, since, closed in ends:
        waiting = Reward.objects.filter(experiment_id=pk, folded=False, late=False, decided_at__gte=since)
        if pk not in at_once:
            if closed is None:
                continue
            waiting = waiting.filter(decided_at__lt=closed)
        if waiting.exists():
            found.add(pk)
    return found
