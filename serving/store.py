"""What a web process knows: the newest snapshot of every endpoint, in memory and on disk, and how fresh it is.

A background thread asks Redis a few times a second what changed (one round trip) and swaps whole documents in; requests
read references and never wait. While Redis is away the last documents go on serving, from disk even after a restart.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import redis
import structlog

from . import snapshot
from .learner_sign import LearnerWatch
from .live import LiveEndpoint, LoadRuntime, ModelCache, make_live
from .redis_keys import ACCESS, Keys

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 1.0
COMPARE_SECONDS = 2.0
"""How often the documents' own versions are held against those in memory: the index may not have been told of a publication."""


class SnapshotStore:
    """The snapshots of this process.

    `after_refresh` runs in the refreshing thread after each round that reached Redis (the spool is shipped there).
    """

    def __init__(
        self,
        *,
        client: redis.Redis,
        keys: Keys,
        load: LoadRuntime,
        folder: Path,
        refresh_seconds: float,
        stale_seconds: float,
        after_refresh: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._folder = folder
        self._refresh_seconds = refresh_seconds
        self._stale_seconds = stale_seconds
        self._after_refresh = after_refresh
        self._models = ModelCache(load)
        self._endpoints: dict[str, LiveEndpoint] = {}
        self._access = snapshot.Access(version=0, keys={})
        self._rewards: dict[int, tuple[str, snapshot.Reward]] = {}
        self._seen_sequence = 0
        self._seen_epoch: bytes | None = None
        self._compared = time.monotonic()
        self._refused: dict[str, int] = {}  # versions that could not be read: not tried again and again
        self.learner = LearnerWatch()
        self._began = float("-inf")  # when the last reading that succeeded began, and when it ended
        self._reached = float("-inf")
        self._loaded = False
        self._refreshing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # What requests read.

    def endpoint(self, name: str) -> LiveEndpoint | None:
        held = self._endpoints.get(name)
        if held is None and self._ask():
            held = self._endpoints.get(name)
        return held

    def key(self, digest: str) -> snapshot.Key | None:
        held = self._access.keys.get(digest)
        if held is None and self._ask():
            held = self._access.keys.get(digest)
        return held

    def reward(self, experiment_id: int) -> tuple[str, snapshot.Reward] | None:
        """(endpoint's name, reward) of an experiment whose windows can be open, or None."""
        held = self._rewards.get(experiment_id)
        if held is None and self._ask():
            held = self._rewards.get(experiment_id)
        return held

    def endpoints(self) -> list[LiveEndpoint]:
        return list(self._endpoints.values())

    def is_stale(self, endpoint: str) -> bool:
        """Is what requests to an endpoint read older than it should be: Redis out of reach, the learner silent, or behind with it?"""
        return (
            time.monotonic() - self._reached > max(1.0, 4 * self._refresh_seconds)
            or self.learner.silent_seconds > self._stale_seconds
            or self.learner.behind_seconds(endpoint) > self._stale_seconds
        )

    @property
    def loaded(self) -> bool:
        """Has anything ever been read, from Redis or from disk?"""
        return self._loaded

    # The thread.

    def start(self) -> None:
        """Read the disk, then Redis, then keep reading Redis in the background."""
        self._read_disk()
        self.refresh()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * TIMEOUT_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(self._refresh_seconds):
            self.refresh()

    def _ask(self) -> bool:
        """For an unknown name or key: what changed until now, without waiting for the thread."""
        return self.refresh(since=time.monotonic())

    def refresh(self, since: float | None = None) -> bool:
        """Read what changed; True if Redis was reached. Never raises: a damaged document leaves its predecessor serving.

        With `since`, a reading that another caller began after that instant will do: many askers cost one reading.
        """
        with self._refreshing:
            if since is not None and self._began >= since:
                return True
            began = time.monotonic()
            try:
                self._read_redis()
            except (redis.RedisError, OSError) as error:
                log.debug("redis out of reach", error=str(error))
                return False
            except Exception:
                log.exception("snapshot refresh failed")
                return False
            self._began = began
            self._reached = time.monotonic()
            self._loaded = True
        with contextlib.suppress(Exception):
            self._after_refresh()
        return True

    def _read_redis(self) -> None:
        read = self._client.mget(self._keys.sequence, self._keys.epoch, self._keys.learner, self._keys.lagging)
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
        if time.monotonic() - self._compared >= COMPARE_SECONDS:
            changed |= self._newer_than_held()
            self._compared = time.monotonic()
        if changed:
            endpoints = dict(self._endpoints)
            for name in sorted(changed):
                self._take(name, endpoints)
            self._swap(endpoints)
        if epoch is not None:  # emptied and not yet republished: keep what we have, and stay curious
            self._seen_sequence, self._seen_epoch = number, epoch

    def _newer_than_held(self) -> set[str]:
        """The documents that Redis holds in a later version, whatever the index says."""
        held = {ACCESS: self._access.version}
        held |= {name: live.document.version for name, live in self._endpoints.items()}
        with self._client.pipeline(transaction=False) as pipeline:
            for name in held:
                pipeline.hget(self._keys.snapshot(name), "version")
            found = pipeline.execute()
        return {
            name
            for (name, version), there in zip(held.items(), found, strict=True)
            if there is not None and int(there) > max(version, self._refused.get(name, -1))
        }

    def _take(self, name: str, endpoints: dict[str, LiveEndpoint]) -> None:
        read = self._client.hmget(self._keys.snapshot(name), "version", "body")
        version, body = cast("list[bytes | None]", read)
        if version is None or body is None:
            endpoints.pop(name, None)
            self._path(name).unlink(missing_ok=True)
            return
        if self._adopt(name, body, endpoints):
            self._write_disk(name, body)
        else:
            self._refused[name] = int(version)

    def _adopt(self, name: str, body: bytes, endpoints: dict[str, LiveEndpoint]) -> bool:
        try:
            if name == ACCESS:
                self._access = snapshot.decode_access(body)
            else:
                document = snapshot.decode_endpoint(body)
                endpoints[name] = make_live(document, self._models, self._keys)
        except Exception:
            log.exception("snapshot refused", document=name)
            return False
        return True

    def _swap(self, endpoints: dict[str, LiveEndpoint]) -> None:
        self._rewards = {
            reward.experiment_id: (live.document.name, reward)
            for live in endpoints.values()
            for reward in live.document.rewards
        }
        self._endpoints = endpoints
        self._models.keep_only(endpoints)

    # The copy on disk.

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.msgpack"

    def _write_disk(self, name: str, body: bytes) -> None:
        """Best effort: a full disk must not keep a snapshot from being served."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Named by thread: several web processes share the folder.
            temporary = self._folder / f".{name}.{threading.get_native_id()}"
            temporary.write_bytes(body)
            temporary.replace(self._path(name))
        except OSError as error:
            log.warning("snapshot not kept on disk", document=name, error=str(error))

    def _read_disk(self) -> None:
        endpoints: dict[str, LiveEndpoint] = {}
        for path in sorted(self._folder.glob("*.msgpack")) if self._folder.is_dir() else []:
            try:
                body = path.read_bytes()
            except OSError:
                continue
            self._loaded |= self._adopt(path.name.removesuffix(".msgpack"), body, endpoints)
        self._swap(endpoints)

    def describe(self) -> dict[str, Any]:
        """For readiness: what is known, and how fresh it is."""
        now = time.monotonic()
        models = [live for endpoint in self._endpoints.values() for live in (endpoint.champion, *endpoint.arms)]
        return {
            "endpoints": len(self._endpoints),
            "seconds_since_redis": None if self._reached == float("-inf") else round(now - self._reached, 1),
            "seconds_since_learner": round(self.learner.silent_seconds, 1),
            # Told, and no reason to call the process unready: requests may hold rows that they do answer.
            "models_failing_examples": sorted({live.model.model for live in models if live.runtime and live.problem}),
        }

    def champions_not_loaded(self) -> dict[str, str]:
        """What is wrong with each champion that this process could not load, by endpoint."""
        return {
            live.document.name: f"{live.champion.model.model}: {live.champion.problem}"
            for live in self._endpoints.values()
            if live.champion.runtime is None
        }

    def challengers_not_loaded(self) -> dict[str, str]:
        """The same of other arms, by endpoint and arm: their requests fall back to the champion."""
        return {
            f"{live.document.name}/{seat.name}": f"{arm.model.model}: {arm.problem}"
            for live in self._endpoints.values()
            if live.document.experiment is not None
            for seat, arm in zip(live.document.experiment.arms, live.arms, strict=True)
            if arm.runtime is None and arm is not live.champion
        }
