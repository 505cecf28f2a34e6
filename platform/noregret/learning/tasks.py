"""Celery's side of learning: thin, idempotent, and nothing in a message but which endpoint to look at."""

from datetime import timedelta

import redis
import structlog
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from noregret.access.publish import publish_access
from noregret.celery import app
from noregret.experiments.publish import publish_endpoint
from serving.ledger import partitions

from . import pending
from .health import sign_of_life
from .round import learn

log = structlog.get_logger(__name__)

PARTITION_DAYS = 7


@app.task
def tick() -> None:
    """Publish what Redis lacks, and wake a round for every endpoint that has something to learn."""
    try:
        found = pending.find()
        if found.access:
            publish_access()
        for endpoint_id in found.publish:
            publish_endpoint(endpoint_id)
        for endpoint_id in found.learn:
            learn_endpoint.apply_async((endpoint_id,), expires=settings.LEARN_EXPIRES_SECONDS)
        if not found.learn:
            sign_of_life()
    except redis.RedisError as error:
        log.warning("redis out of reach", error=str(error))


@app.task
def learn_endpoint(endpoint_id: int) -> None:
    """One round for one endpoint."""
    try:
        if learn(endpoint_id):
            sign_of_life()
    except redis.RedisError as error:
        log.warning("redis out of reach", endpoint=endpoint_id, error=str(error))


@app.task
def housekeeping() -> None:
    """Partitions ahead of time, and old sessions out."""
    today = timezone.now().date()
    with transaction.atomic(), connection.cursor() as cursor:
        partitions.ensure(cursor, today, today + timedelta(days=PARTITION_DAYS))
    call_command("clearsessions")
