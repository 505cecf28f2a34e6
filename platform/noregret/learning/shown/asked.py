"""Figures that are read of many rows of the ledger: who looks is shown the last one, and a worker
makes the next.

So no request reads them, however many look at a page. They are kept in Redis, where every process
finds them; where they are lost, they are made again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import msgspec
import redis
import structlog
from django.utils import timezone
from kombu.exceptions import KombuError
from msgspec import Struct

from noregret.experiments.models import Experiment
from noregret.redis_client import client, keys
from noregret.rest.encoding import encoded

from . import coefficients, evaluation, lagging, segments
from .coefficients import Coefficients
from .evaluation import Evaluation, NotEvaluated
from .segments import Segments

log = structlog.get_logger(__name__)

NOBODY = "no worker can be asked at the moment"
TASK = "noregret.learning.tasks.tell"
SEGMENTS = "segments"
_EVALUATION = "evaluation-"
FRESH_SECONDS, FRESH_OF_ENDED = 30.0, 600.0
"""An older one is still shown, and made anew."""
KEPT_SECONDS = 3600
ASKED_SECONDS = 20
"""So long one worker is waited for before another is asked."""


class Told(Struct, frozen=True):
    """`at`: seconds since 1970. What was asked for; `refused`: why there is none."""

    at: float
    segments: Segments | None = None
    coefficients: Coefficients | None = None
    evaluation: Evaluation | None = None
    refused: str = ""

    @property
    def when(self) -> datetime:
        return datetime.fromtimestamp(self.at, tz=UTC)


@dataclass(frozen=True, slots=True)
class Known:
    """`told`: the last one. `is_made`: a worker is at the next. `problem`: why nobody can be
    asked."""

    told: Told | None
    is_made: bool = False
    problem: str = ""


def evaluation_by(policy: str) -> str:
    """The name of what that policy would have earned."""
    return f"{_EVALUATION}{policy}"


def look(experiment: Experiment, what: str, *, ask: bool = True) -> Known:
    """What is known; with `ask` a worker is asked for the next one where that is old. Never
    raises for Redis or the broker."""
    names = (experiment.endpoint.name, experiment.pk, what)
    try:
        told = _kept(keys().told(*names))
        fresh = FRESH_SECONDS if experiment.ended_at is None else FRESH_OF_ENDED
        if not ask or (told is not None and timezone.now().timestamp() - told.at < fresh):
            return Known(told)
        if client().set(keys().asked(*names), b"1", nx=True, ex=ASKED_SECONDS) and not _ask(experiment, what):
            client().delete(keys().asked(*names))
            return Known(told, problem=NOBODY)
    except redis.RedisError as error:
        log.warning("redis out of reach", error=str(error))
        return Known(None, problem=NOBODY)
    return Known(told, is_made=True)


def _ask(experiment: Experiment, what: str) -> bool:
    """Ask a worker for it; False where the broker does not take it."""
    from noregret.celery import tell  # not before somebody looks: a web process needs none of it otherwise

    try:
        tell(TASK, (experiment.pk, what), queue="upkeep", expires=ASKED_SECONDS)
    except (KombuError, redis.RedisError, OSError) as error:
        log.warning("no worker can be asked", error=str(error))
        return False
    return True


def _kept(key: str) -> Told | None:
    body = cast("bytes | None", client().get(key))
    try:
        return None if body is None else msgspec.json.decode(body, type=Told)
    except msgspec.DecodeError:  # another version's
        return None


def make(experiment_id: int, what: str) -> None:
    """In a worker: compute it and keep it. The same twice is one. Raises redis.RedisError."""
    experiment = Experiment.objects.select_related("endpoint").filter(pk=experiment_id).first()
    if experiment is None:
        return
    names = (experiment.endpoint.name, experiment.pk, what)
    body = encoded(_made(experiment, what))
    client().set(keys().told(*names), body, ex=KEPT_SECONDS)
    client().delete(keys().asked(*names))


def _made(experiment: Experiment, what: str) -> Told:
    at = timezone.now().timestamp()

    def of(read: Callable[[], Told]) -> Told:
        return lagging.of_experiment(experiment.pk, read)

    if what == SEGMENTS:
        return of(lambda: Told(at, segments.segments(experiment), coefficients.of_experiment(experiment)))
    policy = what.removeprefix(_EVALUATION)
    try:
        return of(
            lambda: Told(at, evaluation=evaluation.of_experiment(experiment, policy, {}, seconds=0.75 * ASKED_SECONDS))
        )
    except NotEvaluated as error:
        return Told(at, refused=str(error))
