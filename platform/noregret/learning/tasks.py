"""Celery's side of shadows, in a worker of their own (queue `shadow`), of rebuilds by many workers
(queue `rebuild`), and of figures that pages ask for (queue `upkeep`)."""

import redis
import structlog

from noregret.celery import app

from . import shadows, workers
from .locks import LeaseLost, shadows_lock
from .shown import asked

log = structlog.get_logger(__name__)


@app.task
def mirror_shadows() -> None:
    """Let the challengers of shadow experiments predict on what waits for them."""
    try:
        with shadows_lock() as ours:
            if ours:
                shadows.rounds()
    except redis.RedisError as error:
        log.warning("redis out of reach", error=str(error))
    except LeaseLost:
        log.warning("another lets shadows predict")


@app.task(time_limit=3600, soft_time_limit=3570)
def compute_part(part: int) -> None:
    """Compute a part of a rebuild, which waits in its table. Queue `rebuild`."""
    workers.compute_part(part)


@app.task
def tell(experiment: int, what: str) -> None:
    """Make a figure that somebody has asked for, and keep it. Queue `upkeep`."""
    try:
        asked.make(experiment, what)
    except redis.RedisError as error:
        log.warning("redis out of reach", error=str(error))
