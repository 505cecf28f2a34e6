"""How many events of a key are taken: a device's key may be public, and what anybody can send is
bounded by it.

Counted in Redis by the minute, over all web processes. While Redis is away each process counts for
itself.
"""

import threading
import time

import redis
import structlog

from serving.redis_keys import Keys

log = structlog.get_logger(__name__)

_SECONDS = 60
_PAUSE_SECONDS = 1.0
_KEYS_KEPT = 10_000


class Allowance:
    """Of every key: `events` a minute. Nothing is counted of what is refused."""

    def __init__(self, client: redis.Redis, keys: Keys, events: int) -> None:
        self._client = client
        self._keys = keys
        self._events = events
        self._here: dict[str, int] = {}
        self._minute = 0
        self._paused_until = 0.0
        self._lock = threading.Lock()

    def take(self, key: str, events: int, now: float) -> int | None:
        """Take so many of a key's (its digest); None, or the seconds after which there are more."""
        minute = int(now // _SECONDS)
        if self._taken(key, events, minute) <= self._events or events > self._events:
            return None
        self._taken(key, -events, minute)
        return _SECONDS - int(now % _SECONDS)

    def _taken(self, key: str, events: int, minute: int) -> int:
        if time.monotonic() >= self._paused_until:
            name = self._keys.edge_events(key, minute)
            try:
                with self._client.pipeline(transaction=False) as pipeline:
                    pipeline.incrby(name, events)
                    pipeline.expire(name, 2 * _SECONDS)
                    return int(pipeline.execute()[0])
            except (redis.RedisError, OSError) as error:
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
                log.warning("events of devices counted by this process alone", error=str(error))
        with self._lock:
            if minute != self._minute or len(self._here) > _KEYS_KEPT:
                self._minute, self._here = minute, {}
            self._here[key] = self._here.get(key, 0) + events
            return self._here[key]
