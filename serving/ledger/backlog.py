"""How much waits in the streams for the learner, and whose decisions are kept on disk meanwhile.

Redis holds snapshots, keys and Celery's queues too, so that the streams must not fill it: all
endpoints' together are bounded well below its `maxmemory`. Past the bound an endpoint's decisions
go to the spool, but for a small share of the bound that each endpoint has for itself: one that
nobody drains stops no other. A request only looks up a set; a thread asks Redis twice a second. In
between the streams grow by what comes in, which is why the bound leaves so much room.

Of a cluster each server is looked at by itself, with the endpoints whose streams it has: what fills
one closes no endpoint of another.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import redis
import structlog

from serving import redis_clients
from serving.redis_keys import Keys

log = structlog.get_logger(__name__)

SHARE = 0.5
"""Of `maxmemory`, unless a bound is set."""
UNBOUNDED_REDIS_BYTES = 512 * 2**20
"""The bound where Redis has no `maxmemory`."""
ALL_SHARE = 0.8
"""Of `maxmemory`, for the streams and whatever else is there: the rest is for snapshots, keys and
queues."""
LEAST_SHARE = 1 / 16
"""Of `maxmemory`, for the streams however full the rest is: a learner that keeps up needs no
more."""
OWN_SHARE = 1 / 8
"""Of the bound, on top of it, that endpoints have for themselves, each an equal part."""
SHIP_SHARE = 1 / 2
"""Of the bound: with more in the streams nothing is shipped from disks, so that what requests
append comes first."""
SHADOWS_SHARE = 1 / 8
"""Of the bound, for the copies of shadow challengers, once Redis holds more than a half of it."""
RESERVED_SHARE = 0.1
"""Of `maxmemory`, that nothing which is only useful may take: arms of sticky units are not
remembered then."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What Redis held when it was asked, in bytes. `maximum` is its `maxmemory`, 0 for none."""

    used: int
    maximum: int
    decisions: dict[str, int]
    """By endpoint. Empty where all of Redis holds less than half the bound: nobody needs to know
    then."""
    shadows: int = 0

    @property
    def total(self) -> int:
        return sum(self.decisions.values())


def bound_of(used: int, maximum: int, total: int, limit: int | None) -> float:
    """How much the streams together may hold, in bytes. `limit`: as it was set, None for a share of
    `maximum`."""
    if not maximum:
        return UNBOUNDED_REDIS_BYTES if limit is None else limit
    wanted = SHARE * maximum if limit is None else limit
    rest = used - total
    return min(wanted, max(ALL_SHARE * maximum - rest, LEAST_SHARE * maximum))


def leaves_reserve(used: int, maximum: int) -> bool:
    """May what is only useful be written?"""
    return not maximum or used <= (1 - RESERVED_SHARE) * maximum


def by_server(client: redis.Redis, keys: Keys, endpoints: Sequence[str]) -> list[tuple[redis.Redis, list[str]]]:
    """The servers that take writes, one where there is no cluster, each with the endpoints whose
    streams it has. Raises redis.RedisError."""
    return redis_clients.by_shard(client, endpoints, keys.decisions)


def memory(client: redis.Redis) -> tuple[int, int]:
    """(bytes used, `maxmemory` or 0). Raises redis.RedisError."""
    found = client.info("memory")
    return int(found["used_memory"]), int(found.get("maxmemory", 0))


def ask(client: redis.Redis, keys: Keys, endpoints: Sequence[str], limit: int | None) -> Waiting:
    """Ask one server: one round trip, and one more where it holds much. Raises redis.RedisError."""
    used, maximum = memory(client)
    if used <= bound_of(used, maximum, used, limit) * SHIP_SHARE:
        return Waiting(used, maximum, {})
    return measure(client, keys, endpoints)


def measure(client: redis.Redis, keys: Keys, endpoints: Sequence[str]) -> Waiting:
    """The same, whatever Redis holds."""
    used, maximum = memory(client)
    with client.pipeline(transaction=False) as pipeline:
        for name in endpoints:
            # Streams are measured by samples, however long they are.
            pipeline.memory_usage(keys.decisions(name))
            pipeline.memory_usage(keys.shadows(name))
        sizes = pipeline.execute()
    decisions = {name: int(sizes[2 * i] or 0) for i, name in enumerate(endpoints)}
    return Waiting(used, maximum, decisions, sum(int(size or 0) for size in sizes[1::2]))


class Backlog:
    """What this process knows of it. Until it has looked, and while Redis is away, everyone has
    room."""

    def __init__(self, client: redis.Redis, keys: Keys, limit: int | None) -> None:
        self._client = client
        self._keys = keys
        self._limit = limit
        self._closed: frozenset[str] = frozenset()
        self._only_these_ship: frozenset[str] | None = None
        self.shadows_have_room = True
        self.has_reserve = True

    def has_room(self, endpoint: str) -> bool:
        """May a request append to this endpoint's stream?"""
        return endpoint not in self._closed

    def may_ship(self, endpoint: str) -> bool:
        """May what waits on disk be appended to this endpoint's stream?"""
        few = self._only_these_ship
        return few is None or endpoint in few

    def look(self, endpoints: Collection[str]) -> None:
        """Ask Redis. Raises redis.RedisError, and then what was known before stands; of a server of
        a cluster that is away nothing is shipped meanwhile."""
        names = list(endpoints)
        looks: list[_Look] = []
        away: set[str] = set()
        servers = by_server(self._client, self._keys, names)
        for server, those in servers:
            try:
                looks.append(self._look_at(server, those))
            except (redis.ConnectionError, redis.TimeoutError):
                if not looks and (server, those) == servers[-1]:
                    raise
                away.update(those)
        closed = frozenset[str]().union(*(look.closed for look in looks)) | (self._closed & away)
        if closed != self._closed:
            tell = log.warning if closed else log.info
            tell(
                "backlog",
                endpoints_on_disk=len(closed),
                bytes=sum(look.waiting.total for look in looks),
                bound=int(sum(look.bound for look in looks)),
                redis_bytes=sum(look.waiting.used for look in looks),
            )
        self._closed = closed
        stopped = frozenset[str]().union(away, *(look.stopped for look in looks))
        self._only_these_ship = frozenset(names) - stopped if stopped or any(look.is_full for look in looks) else None
        self.shadows_have_room = all(look.waiting.shadows <= SHADOWS_SHARE * look.bound for look in looks)
        self.has_reserve = all(leaves_reserve(look.waiting.used, look.waiting.maximum) for look in looks)

    def _look_at(self, server: redis.Redis, names: list[str]) -> "_Look":
        try:
            waiting = ask(server, self._keys, names, self._limit)
        except redis.ResponseError as error:
            # A server that tells nobody its memory: then only its refusals are heard of
            # (serving.ledger.decision_log).
            log.warning("backlog not known", error=str(error))
            waiting = Waiting(0, 0, {})
        total = waiting.total
        bound = bound_of(waiting.used, waiting.maximum, total, self._limit)
        own = OWN_SHARE * bound / max(len(names), 1)
        is_full = total > SHIP_SHARE * bound
        return _Look(
            waiting,
            bound,
            is_full,
            frozenset(name for name, size in waiting.decisions.items() if total > bound and size > own),
            frozenset(name for name in names if is_full and waiting.decisions.get(name, 0) > SHIP_SHARE * own),
        )


@dataclass(frozen=True, slots=True)
class _Look:
    """At one server. `closed`: endpoints that have no room; `stopped`: those that nothing is
    shipped of, while it `is_full`."""

    waiting: Waiting
    bound: float
    is_full: bool
    closed: frozenset[str]
    stopped: frozenset[str]
