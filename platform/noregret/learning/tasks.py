"""Celery's side of learning: thin, idempotent, and nothing in a message but which endpoint to look at."""

from datetime import timedelta

import redis
import structlog
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from noregret.access.publish import publish_access
from noregret.celery import app
from noregret.experiments.publish import overtake, publish_endpoint
from serving.ledger import partitions

from . import pending, schedule, shadows
from .health import sign_of_life
from .locks import LeaseLost, lookout_lock, shadows_lock
from .round import learn

log = structlog.get_logger(__name__)

PARTITION_DAYS = 7
# While something has waited longer than this, finished rounds of other endpoints are no sign of life: one that is stuck must show.
BEHIND_SECONDS = 10.0


@app.task
def tick() -> None:
    """Publish what Redis lacks, and wake a round for every endpoint that has something to learn."""
    try:
        with lookout_lock() as ours:
            if ours:
                _look()
    except redis.RedisError as error:
        log.warning("redis out of reach", error=str(error))
    except LeaseLost:
        log.warning("another looks for what is to be done")


def _look() -> None:
    schedule.start_due()
    found = pending.find()
    well = _publish(found) and found.behind_seconds <= BEHIND_SECONDS
    for endpoint_id in found.learn:
        learn_endpoint.apply_async((endpoint_id, well), expires=settings.LEARN_EXPIRES_SECONDS)
    if well and not found.learn:
        sign_of_life()


def _publish(found: pending.Pending) -> bool:
    """Bring Redis up to date; False when some of it could not be: one endpoint's failure keeps no other from being served."""
    well = True
    if found.access:
        well &= publish_access()
    for endpoint_id in found.publish:
        try:
            well &= publish_endpoint(endpoint_id)
        except Exception:
            log.exception("snapshot not published", endpoint=endpoint_id)
            well = False
    for endpoint_id, version in found.overtake.items():
        overtake(endpoint_id, version)
    return well


@app.task
def learn_endpoint(endpoint_id: int, well: bool = False) -> None:
    """One round for one endpoint. `well`: nothing was stuck when it was asked for, so that its end shows that the platform learns."""
    try:
        if learn(endpoint_id) and well:
            sign_of_life()
    except redis.RedisError as error:
        log.warning("redis out of reach", endpoint=endpoint_id, error=str(error))


@app.task
def mirror_shadows() -> None:
    """Let the challengers of shadow experiments predict on what waits for them. In the worker of the queue `shadow`."""
    try:
        with shadows_lock() as ours:
            if ours:
                shadows.rounds()
    except redis.RedisError as error:
        log.warning("redis out of reach", error=str(error))
    except LeaseLost:
        log.warning("another lets shadows predict")


@app.task
def housekeeping() -> None:
    """Partitions ahead of time and for days that came unannounced, and old sessions out."""
    today = timezone.now().date()
    with connection.cursor() as cursor:
        unannounced = partitions.days_in_default(cursor, today)
    ahead = (today, today + timedelta(days=PARTITION_DAYS))
    for first, last in (ahead, *((day, day) for day in unannounced)):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                partitions.ensure(cursor, first, last)
        except OperationalError as error:  # another holds the table; the next hour is soon enough
            log.warning("partitions not made", first=str(first), last=str(last), error=str(error))
    call_command("clearsessions")
