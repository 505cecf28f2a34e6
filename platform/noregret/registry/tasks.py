"""Celery's side of registration: in the worker of the queue `inspect`, which inspects one artefact
at a time.
"""

from uuid import UUID

import redis
import structlog

from noregret.celery import app

from . import jobs

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
