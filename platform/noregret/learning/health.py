"""Is the platform learning, and with which endpoints is it behind? What readiness, results, the
dashboard and `doctor` show of the learner.

Each look of the learner (tasks.tick) ends in one sign: that it looked at every endpoint, which of
them lag, and why. So an endpoint that is stuck is told as that endpoint, and a learner that looks
no more as all of them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import msgspec
import redis
from django.conf import settings
from msgspec import Struct

from noregret.experiments.models import Endpoint, Experiment
from noregret.redis_client import client, keys, probing_client
from serving.learner_sign import Lag, decode, encode
from serving.models import QuarantinedEvent

from .quarantine import set_aside

# What waits shorter than this is on its way; a round that fails once is done again a second later.
BEHIND_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Learner:
    """`age_seconds` since its last sign, None when it never gave one; `lagging`: what it is behind
    with, by endpoint."""

    age_seconds: float | None
    lagging: dict[str, Lag] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """`backlog` counts decisions that wait for the ledger, `quarantined` what was set aside;
    `waiting` is the backlog by endpoint."""

    learner: Learner
    backlog: int
    quarantined: int
    waiting: dict[str, int] = field(default_factory=dict)


def sign_of_life(lagging: Mapping[str, Lag] | None = None) -> None:
    """Called when every endpoint was looked at, with those that lag. Raises redis.RedisError."""
    names = keys()
    client().mset({names.learner: repr(time.time()), names.lagging: encode(lagging or {})})


def learner() -> Learner:
    """What the learner last said. Raises redis.RedisError."""
    names = keys()
    sign, lagging = cast("list[bytes | None]", probing_client().mget(names.learner, names.lagging))
    if sign is None:
        return Learner(None)
    try:
        told = decode(lagging)
    except msgspec.DecodeError as error:  # no evidence that any endpoint is well
        told = {"": Lag(0.0, f"the learner's sign can't be read: {error}")}
    return Learner(round(max(0.0, time.time() - float(sign)), 1), told)


class LearnerState(Struct, frozen=True):
    """Is the experiment learned for: seconds since the learner looked, for how long it has been
    behind with the endpoint, and why.

    `set_aside` counts rows of the ledger that can't be learned; they are in quarantine.
    """

    ok: bool
    seconds_since_round: float | None
    behind_seconds: float | None
    why: str | None
    set_aside: int


def of_experiment(experiment: Experiment) -> LearnerState:
    """Never raises for Redis: that it is away is told."""
    count = set_aside(experiment.name)
    try:
        found = learner()
    except redis.RedisError:
        return LearnerState(False, None, None, "Redis can't be reached, so nothing is learned", count)
    lag = found.lagging.get(experiment.endpoint.name) or found.lagging.get("")
    if not gives_sign(found.age_seconds):
        return LearnerState(False, found.age_seconds, None, "the learner gives no sign", count)
    if lag is None:
        return LearnerState(True, found.age_seconds, 0.0, None, count)
    return LearnerState(False, found.age_seconds, lag.seconds, lag.why, count)


def not_learned_yet(endpoint: str) -> str:
    """What came to an endpoint and is not learned, in a clause; empty where all is. Without it no
    traffic in the sums is no evidence that none came. Never raises for Redis."""
    try:
        found = learner()
        waiting = probing_client().xlen(keys().decisions(endpoint))
    except redis.RedisError:
        return "Redis can't be reached, so nothing is learned"
    lag = found.lagging.get(endpoint) or found.lagging.get("")
    return not_learned_told(waiting, None if lag is None else lag.why, gives_sign(found.age_seconds))


def gives_sign(age_seconds: float | None) -> bool:
    """Has the learner looked lately?"""
    return age_seconds is not None and age_seconds <= settings.LEARNER_DEAD_SECONDS


def not_learned_told(waiting: int, lag: str | None, is_alive: bool) -> str:
    """Of so many decisions in an endpoint's stream, and why the learner is behind with it."""
    waits = f"{waiting:,} decision{' waits' if waiting == 1 else 's wait'} to be learned" if waiting else ""
    if not is_alive:
        return f"{waits}, and the learner gives no sign" if waits else ""
    why = "" if lag is None else f"the learner is behind with it ({lag})"
    return ", and ".join(part for part in (waits, why) if part)


def health() -> Health:
    """Raises redis.RedisError."""
    names = keys()
    endpoints = list(Endpoint.objects.values_list("name", flat=True))
    with client().pipeline(transaction=False) as pipeline:
        for name in endpoints:
            pipeline.xlen(names.decisions(name))
        counts = pipeline.execute(raise_on_error=False)
    waiting = {name: count for name, count in zip(endpoints, counts, strict=True) if isinstance(count, int)}
    return Health(learner(), sum(waiting.values()), QuarantinedEvent.objects.count(), waiting)
