"""Celery's side of retention: thin, bounded, idempotent."""

import redis
import structlog
from django.conf import settings
from django.utils import timezone

from noregret.celery import app
from noregret.learning.locks import retention_lock

from . import ages, days

log = structlog.get_logger(__name__)


@app.task
def retain() -> None:
    """Drop the ledger's old days, and prune what else is old."""
    with retention_lock() as ours:
        if not ours:
            return
        now = timezone.now()
        pruned = {what: count for what, count in ages.prune(now).items() if count}
        if pruned:
            log.info("old rows taken out", pruned=pruned)
        try:
            dropped = days.drop_old_days(now, settings.LEDGER_DAYS)
        except redis.RedisError as error:
            log.warning("redis out of reach, no day of the ledger dropped", error=str(error))
            return
        if dropped.closed or dropped.tables:
            log.info("days of the ledger dropped", days=len(dropped.closed), tables=dropped.tables)
        if dropped.blocked:
            log.warning("an old day of the ledger stays", why=dropped.blocked)
