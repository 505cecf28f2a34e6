"""Celery's side of steering: thin, idempotent, and nothing in a message but which endpoint to look
at. Queue `learn`.

What goes wrong with one endpoint is noted and told as its own (failing, health), and keeps no other
from being learned for and published.
"""

import time
from collections.abc import Callable
from functools import partial

import redis
import structlog
from django.conf import settings

from noregret.access.publish import publish_access
from noregret.celery import app
from noregret.experiments.models import Endpoint
from noregret.learning import sticky_units
from noregret.learning.health import sign_of_life
from noregret.learning.locks import LeaseLost, bounded_wait, lookout_lock, units_lock
from noregret.rollout.baselines import give_baseline, without_baseline
from noregret.rollout.publish import overtake, publish_endpoint
from serving.redis_keys import ACCESS

from . import pending, schedule
from .failing import failed, in_words, succeeded, waiting
from .round import learn

log = structlog.get_logger(__name__)

# Of one look's time, so much goes into publications, and one more; the rest comes with the next
# look.
PUBLISH_SECONDS = 3.0
GIVEN_A_LOOK = 50
"""So many endpoints that an earlier version made get their baseline in one look."""


@app.task
def tick() -> None:
    """Wake a round for every endpoint that has something to learn, publish what Redis lacks, and
    tell who lags."""
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
    for endpoint_id in without_baseline().values_list("pk", flat=True)[:GIVEN_A_LOOK]:
        give_baseline(endpoint_id)
    found = pending.find()
    for endpoint_id in found.learn:
        learn_endpoint.apply_async((endpoint_id,), expires=settings.LEARN_EXPIRES_SECONDS)
    for experiment_id in sticky_units.to_restore():
        restore_units.apply_async((experiment_id,), expires=settings.LEARN_EXPIRES_SECONDS)
    for part, name in found.mended:
        succeeded(name, part)
    if found.access:
        _publish(ACCESS, publish_access)
    _publish_endpoints(found)
    for endpoint_id, version in found.overtake.items():
        _publish(found.names[endpoint_id], partial(_overtake, endpoint_id, version))
    sign_of_life(found.lagging)


def _overtake(endpoint_id: int, version: int) -> None:
    with bounded_wait():
        overtake(endpoint_id, version)


def _publish_endpoints(found: pending.Pending) -> None:
    """Bring Redis up to date, for as long as one look may take; the rest have their turn at the
    next."""
    until = time.monotonic() + PUBLISH_SECONDS
    for place, endpoint_id in enumerate(found.publish):
        if time.monotonic() > until:
            waiting(found.names[later] for later in found.publish[place:])
            return
        _publish(found.names[endpoint_id], partial(publish_endpoint, endpoint_id))


def _publish(name: str, publish: Callable[[], bool | None]) -> None:
    """Publish one document; where that fails, note it as this document's trouble. Raises
    redis.RedisError while Redis is away."""
    try:
        if publish() is not False:
            return
        why = "Redis did not take it"
    except redis.RedisError:
        raise
    except Exception as error:
        log.exception("not published", document=name)
        why = in_words(error)
    failed(name, "publish", why)


@app.task
def learn_endpoint(endpoint_id: int) -> None:
    """One round for one endpoint."""
    try:
        _round(endpoint_id)
    except redis.RedisError as error:
        log.warning("redis out of reach", endpoint=endpoint_id, error=str(error))


def _round(endpoint_id: int) -> None:
    """A round, and a note of whether it failed. Raises redis.RedisError, and whatever the round
    raised."""
    name = Endpoint.objects.filter(pk=endpoint_id).values_list("name", flat=True).first()
    try:
        done = learn(endpoint_id)
    except Exception as error:
        if name is not None:
            failed(name, "round", in_words(error))
        raise
    if done and name is not None:
        succeeded(name, "round")


@app.task
def restore_units(experiment_id: int) -> None:
    """Put arms of sticky units back into Redis for a while; the next tick asks again until all are
    there."""
    try:
        with units_lock() as ours:
            if ours:
                sticky_units.restore(experiment_id)
    except redis.RedisError as error:
        log.warning("redis out of reach", experiment=experiment_id, error=str(error))
    except LeaseLost:
        log.warning("another puts arms of units back", experiment=experiment_id)


# What the version before sends: its beat and workers beside ours, and what waits in its queue at an
# upgrade.
for _task in (tick, learn_endpoint, restore_units):
    app.task(name=f"noregret.learning.tasks.{_task.__name__}")(_task.run)
