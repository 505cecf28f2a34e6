"""Every use of Redis: what it is for, how long it waits, how often it tries again, and why.

No use tries again by itself: each has a next round, a spool on disk or an answer without Redis, and
one that repeats while Redis hangs holds its thread twice as long. Celery's broker is its library's
(`CELERY_BROKER_TRANSPORT_OPTIONS`).
"""

from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


@dataclass(frozen=True, slots=True)
class Use:
    """`connect_seconds` to reach the server, `answer_seconds` for each answer, `retries` after
    it."""

    name: str
    connect_seconds: float
    answer_seconds: float
    retries: int
    why: str


APPEND = Use("append", 0.05, 0.05, 0, "a request waits for it; past that the decision goes to the spool")
STICKY = Use("sticky", 0.05, 0.05, 0, "a request waits for it; past that the unit gets the arm of its hash")
EDGE = Use("edge", 0.05, 0.05, 0, "a device waits for it; past that each process counts its events for itself")
SNAPSHOTS = Use("snapshots", 1.0, 1.0, 0, "one thread reads, and requests go on with what is in memory")
SHADOWS = Use("shadows", 1.0, 1.0, 0, "one thread sends, and drops copies that are not taken")
SHIPPING = Use("shipping", 2.0, 2.0, 0, "one thread sends many decisions at once, and has the next round")
CONTROL = Use("control", 2.0, 5.0, 0, "publications, drains and logins: a task's next round does them again")
STREAMS = Use("streams", 2.0, 5.0, 0, "a consumer of a message stream waits, and has the next round")
ONCE = Use("once", 0.5, 1.0, 0, "a caller that sends many requests waits; past that it is told to send them again")
STARTING = Use("starting", 2.0, 2.0, 0, "whoever starts the server asks again until it answers")

USES = (APPEND, STICKY, EDGE, SNAPSHOTS, SHADOWS, SHIPPING, CONTROL, STREAMS, ONCE, STARTING)


def pool(url: str, use: Use) -> redis.ConnectionPool:
    """Connections for `use`, made when they are asked for. `url` as redis-py reads it."""
    return redis.ConnectionPool.from_url(
        url,
        socket_connect_timeout=use.connect_seconds,
        socket_timeout=use.answer_seconds,
        retry=Retry(NoBackoff(), use.retries),
    )


def client(url: str, use: Use) -> redis.Redis:
    """A pooled client for `use`. It raises redis.RedisError when the server is away or too slow."""
    return redis.Redis.from_pool(pool(url, use))
