"""Which endpoints have something to learn or to publish. A lost wake-up costs nothing: this is asked anew each second."""

from dataclasses import dataclass

from django.db import connection

from noregret.experiments.models import Endpoint, Experiment
from noregret.redis_client import client, keys
from serving.redis_keys import ACCESS


@dataclass(frozen=True, slots=True)
class Pending:
    """Endpoints by id; `access`: the API keys are missing from Redis."""

    learn: list[int]
    publish: list[int]
    access: bool


def find() -> Pending:
    """Ask PostgreSQL and Redis, in one round trip each. Raises redis.RedisError."""
    endpoints = dict(Endpoint.objects.values_list("name", "pk"))
    versions = dict(Endpoint.objects.values_list("pk", "policy_version"))
    busy = set(
        Experiment.objects.filter(status__in=[Experiment.Status.RUNNING, Experiment.Status.PAUSED]).values_list(
            "endpoint_id", flat=True
        )
    )
    busy |= _with_waiting_rewards()
    names = keys()
    with client().pipeline(transaction=False) as pipeline:
        pipeline.exists(names.epoch)
        pipeline.hexists(names.snapshot(ACCESS), "version")
        pipeline.zscore(names.changed, ACCESS)
        for name in endpoints:
            pipeline.xlen(names.decisions(name))
            pipeline.hget(names.snapshot(name), "version")
            pipeline.zscore(names.changed, name)
        epoch, access, announced, *rest = pipeline.execute()
    publish: list[int] = []
    for i, (_, pk) in enumerate(endpoints.items()):
        length, version, changed = rest[3 * i : 3 * i + 3]
        if length:
            busy.add(pk)
        if not epoch or changed is None or version is None or int(version) < versions[pk]:
            publish.append(pk)
    return Pending(sorted(busy), publish, not (epoch and access and announced is not None))


def _with_waiting_rewards() -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT experiment_id FROM serving_reward WHERE NOT folded AND NOT late")
        waiting = [row[0] for row in cursor.fetchall()]
    return set(Experiment.objects.filter(pk__in=waiting).values_list("endpoint_id", flat=True))
