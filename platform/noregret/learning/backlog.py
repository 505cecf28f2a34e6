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
    """`bytes`, `bound` and `spooled` in bytes; `of_maxmemory` a share, None where Redis has no
    `maxmemory`."""

    entries: int
    bytes: int
    bound: float
    of_maxmemory: float | None
    oldest_seconds: float | None
    spooled: int

    @property
    def is_well(self) -> bool:
        old = self.oldest_seconds is not None and self.oldest_seconds > OLD_SECONDS
        return self.bytes <= self.bound * backlog.SHIP_SHARE and not old


def find() -> Found:
    """Raises redis.RedisError."""
    names = list(Endpoint.objects.values_list("name", flat=True))
    redis_client = client()
    waiting = backlog.measure(redis_client, keys(), names)
    with redis_client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.xlen(keys().decisions(name))
        entries = sum(pipeline.execute())
    appended = [decision_log().oldest(name) for name in names if entries]
    oldest = min((at for at in appended if at is not None), default=None)
    return Found(
        entries=entries,
        bytes=waiting.total,
        bound=backlog.bound_of(waiting.used, waiting.maximum, waiting.total, settings.BACKLOG_LIMIT),
        of_maxmemory=waiting.total / waiting.maximum if waiting.maximum else None,
        oldest_seconds=None if oldest is None else max(0.0, (clock.now() - oldest).total_seconds()),
        spooled=Spool(settings.SPOOL_DIR, 0).size,
    )
