"""Which server of a Redis or Valkey Cluster has which slot of keys.

One topology a process and address, that all clients share. It is asked for when a server does not
answer, refuses or sends elsewhere: beside who was refused, in a thread of its own, for who appends
a decision waits for nothing of the kind.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis
import structlog

from .redis_addresses import Address

log = structlog.get_logger(__name__)

SLOTS = 16384
REFRESH_SECONDS = 2.0
"""So long at most servers are asked, one after another; then the next asker begins with others."""
_BETWEEN_SECONDS = 0.2
_OLD_SECONDS = 2.0


class Shard(NamedTuple):
    """Servers that have the same keys."""

    primary: Address
    replicas: tuple[Address, ...]


class Topology:
    """What this process knows of one cluster. `ask` gives a server's answer to CLUSTER SLOTS, and
    raises redis.RedisError or OSError."""

    def __init__(self, first: Sequence[Address], ask: Callable[[Address], Any]) -> None:
        self._first = tuple(first)
        self._ask = ask
        # Replaced whole: who reads it needs no lock, which a fork could leave held.
        self._owners: tuple[Address | None, ...] | list[Address | None] = ()
        self.shards: tuple[Shard, ...] = ()
        self._asked_at = float("-inf")

    @property
    def is_known(self) -> bool:
        return bool(self._owners)

    @property
    def servers(self) -> set[Address]:
        """All that are known of."""
        found = {*self._first}
        for shard in self.shards:
            found |= {shard.primary, *shard.replicas}
        return found

    @property
    def slots_without_server(self) -> int:
        """Of SLOTS; all of them where nothing is known."""
        return sum(owner is None for owner in self._owners) if self._owners else SLOTS

    def owner(self, slot: int) -> Address:
        """The server that takes writes to a slot. Raises redis.ConnectionError where none is known
        of."""
        owner = self._owners[slot] if self._owners else None
        if owner is None:
            raise redis.ConnectionError(f"no server of the cluster is known to have slot {slot}")
        return owner

    def moved(self, slot: int, owner: Address) -> None:
        """A server said that another has this slot."""
        if self._owners:
            owners = [*self._owners]
            owners[slot] = owner
            self._owners = owners
        self.refresh_soon()

    def refresh_if_old(self) -> None:
        """Have it asked for again by who looks at all servers now and then: a server may have come,
        or have gone without a word."""
        if time.monotonic() - self._asked_at > _OLD_SECONDS:
            self.refresh_soon()

    def refresh_soon(self) -> None:
        """Have it asked for in another thread, unless that was begun a moment ago."""
        now = time.monotonic()
        if now - self._asked_at >= _BETWEEN_SECONDS:
            self._asked_at = now
            threading.Thread(target=self._refresh_quietly, name="cluster", daemon=True).start()

    def _refresh_quietly(self) -> None:
        try:
            self.refresh()
        except redis.RedisError as error:
            log.warning("cluster not known", error=str(error))

    def refresh(self) -> None:
        """Ask servers until one answers, for REFRESH_SECONDS at most. Raises redis.ConnectionError
        where none does."""
        began = self._asked_at = time.monotonic()
        servers = [*self.servers]
        random.shuffle(servers)  # one that is away, or alone, is not asked first each time
        last: Exception | None = None
        for server in servers:
            try:
                self._take(self._ask(server), server)
                return
            except (redis.RedisError, OSError) as error:
                last = error
            if time.monotonic() - began > REFRESH_SECONDS:
                break
        if isinstance(last, redis.AuthenticationError):
            raise last
        raise redis.ConnectionError(f"no server of the cluster says who has which keys: {last}") from last

    def _take(self, ranges: Any, asked: Address) -> None:
        """[[first slot, last slot, [host, port, ...] of the primary, the same of each replica]]."""
        owners: list[Address | None] = [None] * SLOTS
        replicas: dict[Address, list[Address]] = {}
        for first, last, *servers in ranges:
            primary, *others = (_address(server, asked) for server in servers)
            owners[int(first) : int(last) + 1] = [primary] * (int(last) - int(first) + 1)
            known = replicas.setdefault(primary, [])
            known.extend(other for other in others if other not in known)
        if not replicas:
            raise redis.ConnectionError(f"{asked} knows of no server that has keys")
        self.shards = tuple(Shard(primary, tuple(replicas[primary])) for primary in sorted(replicas))
        self._owners = owners


def _address(server: Any, asked: Address) -> Address:
    """A server that has no name yet is the one that was asked, or on its machine."""
    host = server[0].decode() if isinstance(server[0], bytes) else server[0]
    return Address(host if host not in {None, "", "?"} else asked.host, int(server[1]))
