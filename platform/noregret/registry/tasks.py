"""Celery's side of registration: in the worker of the queue `inspect`, which inspects one artefact
at a time.
"""

import sys
from typing import Any
from uuid import UUID

import redis
import structlog
from celery.signals import worker_init
from django.core.exceptions import ImproperlyConfigured

from noregret.celery import app

from . import jobs
from .storage_deadlines import artifact_storage

log = structlog.get_logger(__name__)


@app.task
def inspect(job: str) -> None:
    """Inspect an artefact and register its model. Harmless when it is called again: a job is
    claimed.
    """
    jobs.run(UUID(job))


@app.task
def tend() -> None:
    """Give a sign of life, and see to jobs that nobody has."""
    try:
        jobs.tend()
    except redis.RedisError as error:
        log.warning("redis out of reach", error=str(error))


@worker_init.connect
def refuse_to_start(**given: Any) -> None:
    """A worker whose store of artefacts can't be made ends, as every process does: no retry mends a
    setting."""
    try:
        artifact_storage()
    except ImproperlyConfigured as error:
        sys.exit(f"noregret: {error}")
