"""Reads from Redis what changed: a thread that asks a few times a second in one round trip, and at
once when a request needs it to.

Nobody else of the hot path reads documents. Whoever needs one that is newer wakes the thread and
waits, so long as it likes, for a reading that began after that: many askers cost one reading, and a
Redis that hangs holds the thread alone.
"""

import contextlib
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Protocol, cast

import redis
import structlog

from .learner_sign import LearnerWatch
from .redis_clients import SNAPSHOTS, by_shard
from .redis_keys import ACCESS, Keys

log = structlog.get_logger(__name__)

COMPARE_SECONDS = 2.0
"""How often the documents' own versions are held against those in memory: the index may not have
been told of a publication."""
COMPARED_AT_ONCE = 100
"""So many of them at a time, by turns: idle endpoints cost nearly nothing, however many. The
learner tells the index of each that it lacks."""
OVERDUE_SECONDS = 0.5
"""A reading that takes longer is waited for by nobody any more."""


class Taker(Protocol):
    """Who takes over what was read. All is called in the reading thread."""

    def access_version(self) -> int:
        """The version that is held of `ACCESS`."""

    def versions(self) -> Mapping[str, int]:
        """The version that is held of each endpoint's document."""

    def take(self, documents: Mapping[str, bytes | None]) -> set[str]:
        """Take over documents that changed, None for one that is gone; the names of those that
        can't be read."""

    def after_round(self) -> None:
        """A round is over, whether or not it reached Redis."""


class SnapshotReader:
    """The reading of one process, from wherever."""

    def __init__(self, taker: Taker, refresh_seconds: float) -> None:
        self._taker = taker
        self._refresh_seconds = refresh_seconds
        self._refused: dict[str, int] = {}  # versions that could not be read: not tried again and again
        self.learner = LearnerWatch()
        self.reached = float("-inf")
        """When a reading last succeeded."""
        self._news = threading.Condition()
        self._reading_since: float | None = None
        self._last_began = float("-inf")  # of the last reading that ended
        self._last_reached = False
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wanted.set()
        self.tell()
        if self._thread is not None:
            self._thread.join(timeout=2 * SNAPSHOTS.answer_seconds)

    # For whoever waits. They hold no lock that another needs.

    @property
    def within_reach(self) -> bool:
        """Did the last reading reach Redis, and is the one under way, if any, still young?"""
        since = self._reading_since
        return self._last_reached and (since is None or time.monotonic() - since < OVERDUE_SECONDS)

    def wait_for_reading(self, seconds: float) -> bool:
        """Has a reading that began from now on reached Redis? Waits for its end, and so long at
        most."""
        asked = time.monotonic()
        self._wanted.set()
        return self.wait_for(lambda: self._last_began >= asked, asked + seconds) and self._last_reached

    def wait_for(self, condition: Callable[[], bool], until: float) -> bool:
        """Wait for what `tell` is called after; False where it is not so `until` then."""
        with self._news:
            while not condition():
                left = until - time.monotonic()
                if left <= 0.0 or self._stop.is_set():
                    return False
                self._news.wait(left)
        return True

    def tell(self) -> None:
        """Something changed that may be waited for."""
        with self._news:
            self._news.notify_all()

    # The thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            self._round()
            self._wanted.wait(self._refresh_seconds)
            self._wanted.clear()

    def _round(self) -> None:
        began = time.monotonic()
        self._reading_since = began
        reached = self._read()
        with self._news:
            self._reading_since, self._last_began, self._last_reached = None, began, reached
            self._news.notify_all()
        with contextlib.suppress(Exception):
            self._taker.after_round()

    def _read(self) -> bool:
        """Read what changed; True if Redis was reached. Never raises: a damaged document leaves its
        predecessor serving."""
        try:
            self._read_what_changed()
        except (redis.RedisError, OSError) as error:
            log.debug("snapshots out of reach", error=str(error))
            return False
        except Exception:
            log.exception("snapshot refresh failed")
            return False
        self.reached = time.monotonic()
        return True

    def _read_what_changed(self) -> None:
        """Raises redis.RedisError or OSError where the source is out of reach."""
        raise NotImplementedError


class RedisReader(SnapshotReader):
    """From Redis, as the learner publishes."""

    def __init__(self, client: redis.Redis, keys: Keys, taker: Taker, refresh_seconds: float) -> None:
        super().__init__(taker, refresh_seconds)
        self._client = client
        self._keys = keys
        self._seen_sequence = 0
        self._seen_epoch: bytes | None = None
        self._compared = time.monotonic()
        self._compared_last = ""  # the name that the last comparison ended with

    def _read_what_changed(self) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.mget(self._keys.sequence, self._keys.epoch, self._keys.learner, self._keys.lagging)
            pipeline.hget(self._keys.snapshot(ACCESS), "version")
            read, access = pipeline.execute(raise_on_error=False)
        if isinstance(read, Exception):
            raise read
        sequence, epoch, learner, lagging = cast("list[bytes | None]", read)
        self.learner.note(learner, lagging)
        number = int(sequence or 0)
        since = self._seen_sequence
        if epoch != self._seen_epoch or number < since:
            since = 0  # Redis was emptied or replaced: everything it holds is news
        changed: set[str] = set()
        if epoch is not None and (since == 0 or number != since):
            found = cast("list[bytes]", self._client.zrangebyscore(self._keys.changed, f"({since}", "+inf"))
            changed.update(raw.decode() for raw in found)
        if self._is_news(ACCESS, access, self._taker.access_version()):
            changed.add(ACCESS)  # a revoked key waits for no index
        if time.monotonic() - self._compared >= COMPARE_SECONDS:
            changed |= self._newer_than(self._next_turn(self._taker.versions()))
            self._compared = time.monotonic()
        is_whole = self._take(changed) if changed else True
        # Emptied and not yet republished: keep what we have, and stay curious. So where some server
        # did not answer.
        if epoch is not None and is_whole:
            self._seen_sequence, self._seen_epoch = number, epoch

    def _next_turn(self, held: Mapping[str, int]) -> Mapping[str, int]:
        """The next COMPARED_AT_ONCE of them by name, from the first again after the last."""
        names = sorted(held)
        first = bisect_right(names, self._compared_last)
        turn = (names[first:] + names[:first])[:COMPARED_AT_ONCE]
        if turn:
            self._compared_last = turn[-1]
        return {name: held[name] for name in turn}

    def _newer_than(self, held: Mapping[str, int]) -> set[str]:
        """The documents that Redis holds in a later version, whatever the index says."""
        with self._client.pipeline(transaction=False) as pipeline:
            for name in held:
                pipeline.hget(self._keys.snapshot(name), "version")
            found = pipeline.execute(raise_on_error=False)
        return {
            name
            for (name, version), there in zip(held.items(), found, strict=True)
            if self._is_news(name, there, version)
        }

    def _is_news(self, name: str, there: object, version: int) -> bool:
        """What is no number, or no hash, is damage of that name alone: what is held of it goes on
        serving."""
        return isinstance(there, bytes) and there.isdigit() and int(there) > max(version, self._refused.get(name, -1))

    def _take(self, names: set[str]) -> bool:
        """Read documents and hand them over; False where a server of a cluster that has some of
        them is away."""
        versions: dict[str, int] = {}
        documents: dict[str, bytes | None] = {}
        is_whole = True
        servers = by_shard(self._client, sorted(names), self._keys.snapshot)
        for _, those in servers:
            try:
                for name in those:
                    try:
                        read = self._client.hmget(self._keys.snapshot(name), "version", "body")
                        version, body = cast("list[bytes | None]", read)
                        versions[name] = int(version or -1)
                    except (redis.ResponseError, ValueError) as error:
                        log.warning("snapshot can't be read", document=name, error=str(error))
                        continue
                    documents[name] = body
            except (redis.ConnectionError, redis.TimeoutError):
                if len(servers) == 1:
                    raise
                is_whole = False
        for name in self._taker.take(documents):
            self._refused[name] = versions[name]
        return is_whole
