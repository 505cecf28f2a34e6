"""Celery's side of retention: thin, bounded, idempotent. Queue `upkeep`."""

import redis
import structlog
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from noregret.access.uses import keep_uses
from noregret.celery import app
from noregret.learning.baselines import fold_leftovers, merge_old_hours
from noregret.learning.finishing import finish
from noregret.learning.locks import retention_lock

from . import ages, days
from .days_ahead import make_days

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


@app.task
def housekeeping() -> None:
    """Partitions ahead of time and for days that came unannounced, and out with old sessions and
    what ended experiments need no more."""
    make_days()
    finish()
    fold_leftovers()
    merge_old_hours()
    call_command("clearsessions")
    try:
        keep_uses()
    except redis.RedisError as error:
        log.warning("redis out of reach, uses of keys not kept", error=str(error))


# As the beat of the version before names it.
app.task(name="noregret.learning.tasks.housekeeping")(housekeeping.run)
