"""Which baseline an endpoint's decisions belong to while no experiment runs: opened, and followed
by the next.

What a baseline has shown is summed elsewhere (noregret.learning.baselines).
"""

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from noregret.experiments.models import Baseline, Endpoint
from serving import snapshot


def keep_baseline(endpoint: Endpoint) -> Baseline:
    """The endpoint's open baseline, of its present champion, share and reward; the former one ends.

    Called under the endpoint's lock, in the transaction of the change that it follows.
    """
    current = Baseline.objects.filter(endpoint=endpoint, ended_at__isnull=True).first()
    if current is not None:
        followed = (endpoint.champion_id, endpoint.record, endpoint.reward)
        if (current.champion_id, current.record, current.reward) == followed:
            return current
        Baseline.objects.filter(pk=current.pk).update(ended_at=timezone.now())
    return Baseline.objects.create(
        id=_number(),
        endpoint=endpoint,
        champion_id=endpoint.champion_id,
        record=endpoint.record,
        reward=endpoint.reward,
        begun_at=timezone.now(),
    )


def _number() -> int:
    """The next of the numbers of experiments."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('experiments_experiment', 'id'))")
        number: int = cursor.fetchone()[0]
    return number


def without_baseline() -> "QuerySet[Endpoint]":
    """Endpoints whose champion has no open baseline: an earlier version of the program made or
    changed them."""
    current = Baseline.objects.filter(endpoint=OuterRef("pk"), ended_at__isnull=True, champion=OuterRef("champion"))
    return Endpoint.objects.filter(~Exists(current))


def give_baseline(endpoint_id: int) -> bool:
    """Give an endpoint its baseline, if it is still missing; was it?

    Its version is raised, so that the learner publishes: the snapshot that is served knows no
    baseline.
    """
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=endpoint_id)
        if not without_baseline().filter(pk=endpoint_id).exists():
            return False
        keep_baseline(endpoint)
        Endpoint.objects.filter(pk=endpoint_id).update(policy_version=F("policy_version") + 1)
    return True


def recorded(endpoint: Endpoint) -> snapshot.Baseline | None:
    """The open baseline as the snapshot holds it; None before the learner has given the endpoint
    one."""
    current = Baseline.objects.filter(endpoint=endpoint, ended_at__isnull=True, champion=endpoint.champion_id).first()
    if current is None:
        return None
    return snapshot.Baseline(id=current.pk, model_id=current.champion_id, record=current.record)
