"""How much the learner has before it: decisions in Redis, since when, and on this machine's disk.
For `doctor`."""

from dataclasses import dataclass

from django.conf import settings

from noregret.experiments.models import Endpoint
from noregret.redis_client import client, decision_log, keys
from serving.ledger import backlog
from serving.ledger.spool import Spool

from . import clock

OLD_SECONDS = 60.0
"""Who waits longer waits for a learner that is dead, stuck or too slow."""


@dataclass(frozen=True, slots=True)
class Found:
    """`bytes`, `bound` and `spooled` in bytes, of a cluster of all its servers; `of_maxmemory` a
    share, of the fullest server, None where none has a `maxmemory`."""

    entries: int
    bytes: int
    bound: float
    of_maxmemory: float | None
    oldest_seconds: float | None
    spooled: int
    is_within_bounds: bool
    """At each server."""

    @property
    def is_well(self) -> bool:
        old = self.oldest_seconds is not None and self.oldest_seconds > OLD_SECONDS
        return self.is_within_bounds and not old


def find() -> Found:
    """Raises redis.RedisError."""
    names = list(Endpoint.objects.values_list("name", flat=True))
    redis_client = client()
    held = [backlog.measure(server, keys(), those) for server, those in backlog.by_server(redis_client, keys(), names)]
    bounds = [
        backlog.bound_of(waiting.used, waiting.maximum, waiting.total, settings.BACKLOG_LIMIT) for waiting in held
    ]
    with redis_client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.xlen(keys().decisions(name))
        entries = sum(pipeline.execute())
    appended = [decision_log().oldest(name) for name in names if entries]
    oldest = min((at for at in appended if at is not None), default=None)
    return Found(
        entries=entries,
        bytes=sum(waiting.total for waiting in held),
        bound=sum(bounds),
        of_maxmemory=max((waiting.total / waiting.maximum for waiting in held if waiting.maximum), default=None),
        oldest_seconds=None if oldest is None else max(0.0, (clock.now() - oldest).total_seconds()),
        spooled=Spool(settings.SPOOL_DIR, 0).size,
        is_within_bounds=all(
            waiting.total <= bound * backlog.SHIP_SHARE for waiting, bound in zip(held, bounds, strict=True)
        ),
    )
