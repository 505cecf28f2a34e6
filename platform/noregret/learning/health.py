"""Is the platform learning? What readiness, the dashboard and `doctor` show of the learner."""

import time
from dataclasses import dataclass

from noregret.experiments.models import Endpoint
from noregret.redis_client import client, keys
from serving.models import QuarantinedEvent


@dataclass(frozen=True, slots=True)
class Health:
    """`learner_age_seconds` is None when no round was ever finished."""

    learner_age_seconds: float | None
    backlog: int
    quarantined: int


def sign_of_life() -> None:
    """Called when a round has finished, not when it was asked for. Raises redis.RedisError."""
    client().set(keys().learner, repr(time.time()))


def learner_age_seconds() -> float | None:
    """Seconds since a round last finished. Raises redis.RedisError."""
    value = client().get(keys().learner)
    return None if value is None else round(max(0.0, time.time() - float(value)), 1)


def health() -> Health:
    """Raises redis.RedisError."""
    names = keys()
    with client().pipeline(transaction=False) as pipeline:
        for name in Endpoint.objects.values_list("name", flat=True):
            pipeline.xlen(names.decisions(name))
        backlog = sum(pipeline.execute())
    return Health(learner_age_seconds(), backlog, QuarantinedEvent.objects.count())
