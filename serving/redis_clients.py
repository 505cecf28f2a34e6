"""Every use of Redis: what it is for, how long it waits, how often it tries again, and why.

No use tries again by itself: each has a next round, a spool on disk or an answer without Redis, and
one that repeats while Redis hangs holds its thread twice as long. Celery's broker is its library's
(`CELERY_BROKER_TRANSPORT_OPTIONS`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import redis_addresses
from .clustered_redis import ClusteredRedis
from .redis_addresses import Address
from .redis_topology import Topology

T = TypeVar("T")


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
PROBE = Use("probe", 0.5, 0.9, 0, "who asks whether this process can serve waits for seconds, and asks again")
STREAMS = Use("streams", 2.0, 5.0, 0, "a consumer of a message stream waits, and has the next round")
ONCE = Use("once", 0.5, 1.0, 0, "a caller that sends many requests waits; past that it is told to send them again")
STARTING = Use("starting", 2.0, 2.0, 0, "whoever starts the server asks again until it answers")
TOPOLOGY = Use("topology", 0.5, 0.5, 0, "a thread asks the servers of a cluster, one after another, who has which keys")

USES = (APPEND, STICKY, EDGE, SNAPSHOTS, SHADOWS, SHIPPING, CONTROL, PROBE, STREAMS, ONCE, STARTING, TOPOLOGY)


def pool(url: str, use: Use) -> redis.ConnectionPool:
    """Connections for `use`, made when they are asked for. `url` as redis-py reads it."""
    return redis.ConnectionPool.from_url(
        url,
        socket_connect_timeout=use.connect_seconds,
        socket_timeout=use.answer_seconds,
        retry=Retry(NoBackoff(), use.retries),
    )


def client(url: str, use: Use) -> redis.Redis:
    """A pooled client for `use`. It raises redis.RedisError when the server is away or too slow.
    `url`: of a server, or of a cluster as `serving.redis_addresses` reads it."""
    if not redis_addresses.is_cluster(url):
        return redis.Redis.from_pool(pool(url, use))
    of_cluster = redis_addresses.parse(url)
    return ClusteredRedis(
        _topology(url), lambda server: client(of_cluster.of(server), use), waits=use.answer_seconds >= 1.0
    )


@cache
def _topology(url: str) -> Topology:
    """One a process and cluster, for all its clients."""
    of_cluster = redis_addresses.parse(url)

    def ask(server: Address) -> object:
        asked: Any = client(of_cluster.of(server), TOPOLOGY)
        try:
            return asked.execute_command("CLUSTER SLOTS")
        finally:
            asked.close()

    return Topology(of_cluster.servers, ask)


# What one server and a cluster differ in, for those who talk to servers themselves.


def at_owner(client: redis.Redis, key: str, ask: Callable[[redis.Redis, bool], T]) -> T:
    """What `ask` returns for the client of the server that has `key`; it may be called again for
    another server. True with it: each command needs an ASKING before it."""
    return client.at_owner(key, ask) if isinstance(client, ClusteredRedis) else ask(client, False)


def by_shard(
    client: redis.Redis, names: Iterable[str], key: Callable[[str], str]
) -> list[tuple[redis.Redis, list[str]]]:
    """Each server that takes writes, with those of `names` whose `key` it has. Raises
    redis.RedisError."""
    if not isinstance(client, ClusteredRedis):
        return [(client, [*names])]
    found: dict[redis.Redis, list[str]] = {server: [] for server in client.shards()}
    for name in names:
        found.setdefault(client.owner_of(key(name)), []).append(name)
    return [*found.items()]


def shards(client: redis.Redis) -> list[redis.Redis]:
    """Each server that takes writes. Raises redis.RedisError."""
    return client.shards() if isinstance(client, ClusteredRedis) else [client]


def shard_of(client: redis.Redis, key: str) -> redis.Redis:
    """The server that has `key`. Raises redis.RedisError."""
    return client.owner_of(key) if isinstance(client, ClusteredRedis) else client
