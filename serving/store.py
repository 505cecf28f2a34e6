"""What a web process knows: the newest snapshot of every endpoint, in memory and on disk, and how
fresh it is.

One thread reads what changed (`serving.reading`), others load models (`serving.loading`), and whole
documents are swapped in when their models are there; requests read references. No lock is held
while Redis or a load is waited for. A request for a name that is unknown here may have the thread
read at once, within the bounds of `serving.misses`. While Redis is away the last documents go on
serving, from disk even after a restart.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import structlog

from . import snapshot
from .batching import Batching
from .learner_sign import LearnerWatch
from .live import LiveEndpoint, LoadRuntime, make_live, models_of
from .loading import ModelKey, ModelLoader, key_of
from .misses import Misses
from .prediction_cache import PredictionCaches
from .reading import SnapshotReader, Taker
from .redis_clients import SNAPSHOTS
from .redis_keys import ACCESS
from .snapshot_files import SnapshotFiles

log = structlog.get_logger(__name__)

T = TypeVar("T")

MISS_SECONDS = 0.5
"""So long at most a look-up of an unknown name waits for a reading, and a request for an endpoint
that has just come for its champion."""
HOLD_SECONDS = 10.0
"""So long at most a document waits for its models while its predecessor serves, but for its
champion as long as the load takes."""
START_SECONDS = 20.0
"""So long at most a process that starts waits for its models."""


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest document of an endpoint. `since`: when it came, or the first of those before it
    that were never served."""

    document: snapshot.Endpoint
    since: float
    keys: frozenset[ModelKey]  # of its models


class SnapshotStore:
    """The snapshots of this process."""

    def __init__(
        self,
        *,
        reader: Callable[[Taker], SnapshotReader],
        load: LoadRuntime,
        folder: Path,
        refresh_seconds: float,
        stale_seconds: float,
        caches: PredictionCaches,
    ) -> None:
        self._caches = caches
        self._files = SnapshotFiles(folder)
        self._refresh_seconds = refresh_seconds
        self._stale_seconds = stale_seconds
        self._misses = Misses()
        self._reader = reader(self)
        self._loader = ModelLoader(load, self._model_changed)
        self._has_disk = False
        # What requests read: replaced whole.
        self._endpoints: dict[str, LiveEndpoint] = {}
        self._waiting: set[str] = set()  # endpoints that wait for other machines
        self._access = snapshot.Access(version=0, keys={})
        self._rewards: dict[int, tuple[str, snapshot.Reward]] = {}
        # From what is read to what is served, under this lock: nobody waits for anything with it.
        self._swapping = threading.Lock()
        self._newest: dict[str, _Newest] = {}
        # Endpoints whose newest document is not served yet, or some model of which is not loaded.
        self._incomplete: set[str] = set()

    # What requests read.

    def endpoint(self, name: str) -> LiveEndpoint | None:
        live = self._endpoints.get(name)
        if live is None:
            live = self._read_through(f"endpoint {name}", lambda: self._endpoints.get(name))
        if live is not None and live.champion.is_loading:
            live = self._with_champion(name, live)
        return live

    def waits(self, name: str) -> bool:
        """May a request on this endpoint wait for another machine?"""
        return name in self._waiting

    def key(self, digest: str) -> snapshot.Key | None:
        key = self._access.keys.get(digest)
        if key is None:
            key = self._read_through(f"key {digest}", lambda: self._access.keys.get(digest))
        return key

    def reward(self, experiment_id: int) -> tuple[str, snapshot.Reward] | None:
        """(endpoint's name, reward) of an experiment whose windows can be open, or None."""
        reward = self._rewards.get(experiment_id)
        if reward is None:
            reward = self._read_through(f"experiment {experiment_id}", lambda: self._rewards.get(experiment_id))
        return reward

    def endpoints(self) -> list[LiveEndpoint]:
        return list(self._endpoints.values())

    @property
    def learner(self) -> LearnerWatch:
        """What was seen of the learner's signs."""
        return self._reader.learner

    def is_stale(self, endpoint: str) -> bool:
        """Is what requests to an endpoint read older than it should be: Redis out of reach, the
        learner silent, or behind with it?"""
        return (
            time.monotonic() - self._reader.reached > max(1.0, 4 * self._refresh_seconds)
            or self.learner.silent_seconds > self._stale_seconds
            or self.learner.behind_seconds(endpoint) > self._stale_seconds
        )

    @property
    def loaded(self) -> bool:
        """Has anything ever been read, from Redis or from disk?"""
        return self._has_disk or self._reader.reached > float("-inf")

    def _read_through(self, name: str, look: Callable[[], T | None]) -> T | None:
        """What `look` finds once Redis was read anew, where that may be waited for."""
        if not self._reader.within_reach:
            return None
        with self._misses.asking(name) as admitted:
            if admitted:
                self._reader.wait_for_reading(MISS_SECONDS)
        return look()

    def _with_champion(self, name: str, live: LiveEndpoint) -> LiveEndpoint:
        """The endpoint with its champion loaded, where it has just come and few wait; else as it
        is."""
        newest = self._newest.get(name)
        until = MISS_SECONDS + (newest.since if newest is not None else 0.0)
        if time.monotonic() < until:
            with self._misses.asking(f"champion of {name}") as admitted:
                if admitted:
                    self._reader.wait_for(lambda: not self._endpoints.get(name, live).champion.is_loading, until)
        return self._endpoints.get(name, live)

    # The life of it.

    def start(self) -> None:
        """Read the disk, then Redis, wait for the models, and keep reading Redis in the
        background."""
        for name, body in self._files.read_all():
            self._has_disk |= self._adopt(name, body)
        self._swap(list(self._newest), is_news=True)
        self._reader.start()
        self.refresh(START_SECONDS)

    def stop(self) -> None:
        self._reader.stop()

    def refresh(self, seconds: float = 2 * SNAPSHOTS.answer_seconds) -> bool:
        """Have what changed read now, and wait, so long at most, until it is served; True if Redis
        was reached.

        A load that has taken longer already is not waited for: it is another's affair.
        """
        began = time.monotonic()
        reached = self._reader.wait_for_reading(seconds)
        self._reader.wait_for(lambda: not self.loading(since=began - seconds), began + seconds)
        return reached

    def loading(self, since: float = float("-inf")) -> dict[str, list[str]]:
        """The models that are awaited, by endpoint, of documents that came after `since`."""
        with self._swapping:
            waiting = {
                name: [model.model for model in models_of(newest.document) if not self._loader.is_settled(model)]
                for name in self._incomplete
                if (newest := self._newest.get(name)) is not None and newest.since > since
            }
        return {name: models for name, models in waiting.items() if models}

    # What the reading thread hands over.

    def access_version(self) -> int:
        return self._access.version

    def versions(self) -> Mapping[str, int]:
        return {name: newest.document.version for name, newest in self._newest.items()}

    def take(self, documents: Mapping[str, bytes | None]) -> set[str]:
        refused: set[str] = set()
        for name, body in documents.items():
            if body is None:
                self._files.remove(name)
                with self._swapping:
                    self._newest.pop(name, None)
            elif self._adopt(name, body):
                self._files.write(name, body)
            else:
                refused.add(name)
        self._swap(documents, is_news=True)
        return refused

    def after_round(self) -> None:
        self._loader.tick()
        held = [name for name in tuple(self._incomplete) if self._is_held(name)]
        if held:
            self._swap(held)  # a wait may be over

    def _adopt(self, name: str, body: bytes) -> bool:
        """Take a document over, to be served when its models are there; False for one that can't
        be."""
        try:
            if name == ACCESS:
                self._access = snapshot.decode_access(body)
                return True
            document = snapshot.decode_endpoint(body)
            with self._swapping:
                make_live(document, self._loader.get)  # loads begin; one that can't be routed is refused
                since = self._newest[name].since if self._is_held(name) else time.monotonic()
                self._newest[name] = _Newest(document, since, frozenset(map(key_of, models_of(document))))
        except Exception:
            log.exception("snapshot refused", document=name)
            return False
        return True

    # From the newest documents to what is served.

    def _is_held(self, name: str) -> bool:
        """Does the newest document wait while its predecessor serves?"""
        newest, live = self._newest.get(name), self._endpoints.get(name)
        return newest is not None and live is not None and live.document is not newest.document

    def _model_changed(self, key: ModelKey) -> None:
        with self._swapping:
            names = [
                name
                for name in self._incomplete
                if self._is_held(name) or ((newest := self._newest.get(name)) is not None and key in newest.keys)
            ]
        self._swap(names)

    def _swap(self, names: Iterable[str], *, is_news: bool = False) -> None:
        """Serve the newest documents of these endpoints as far as their models are there;
        `is_news`: some have just come."""
        with self._swapping:
            endpoints = dict(self._endpoints)
            for name in {*names} - {ACCESS}:
                newest = self._newest.get(name)
                if newest is None:
                    endpoints.pop(name, None)
                    self._incomplete.discard(name)
                    self._waiting.discard(name)
                    continue
                before = endpoints.get(name)
                live = self._served(newest, before)
                endpoints[name] = live
                (self._waiting.add if live.waits else self._waiting.discard)(name)
                if live.document is newest.document and all(model.runtime for model in live.models()):
                    self._incomplete.discard(name)
                else:
                    self._incomplete.add(name)
                is_news |= before is None or before.document is not live.document
            self._endpoints = endpoints
            if is_news:  # else models came, as many do one after another when a process starts
                self._rewards = {
                    reward.experiment_id: (document.name, reward)
                    for document in self._documents()
                    for reward in document.rewards
                }
                self._loader.keep_only(
                    {key_of(model) for document in self._documents() for model in models_of(document)}
                )
                self._caches.keep_only({document.name for document in self._documents() if document.cache})
        self._reader.tell()

    def _served(self, newest: _Newest, before: LiveEndpoint | None) -> LiveEndpoint:
        if before is None or (before.document is not newest.document and self._is_ready(newest, before)):
            live = make_live(newest.document, self._loader.get)
            return replace(live, cache=self._caches.of(newest.document), batching=Batching.of(newest.document))
        return before.with_models(self._loader.get)

    def _is_ready(self, newest: _Newest, before: LiveEndpoint) -> bool:
        """May the newest document serve? Its predecessor does while the champion is being loaded,
        for a while also after that failed, and as long until each challenger is loaded, or has
        failed, that requests can go to.
        """
        document = newest.document
        waited = time.monotonic() - newest.since >= HOLD_SECONDS
        if self._loader.get(document.champion).runtime is None and before.champion.runtime is not None:
            return waited and self._loader.is_settled(document.champion)
        experiment = document.experiment
        if experiment is None or experiment.strategy == "shadow" or waited:
            return True
        return all(self._loader.is_settled(arm.model) for arm in experiment.arms if arm.enabled)

    def _documents(self) -> Iterable[snapshot.Endpoint]:
        """What is served, and then what is to be: other processes may serve it already, and take
        feedback."""
        yield from (live.document for live in self._endpoints.values())
        yield from (newest.document for newest in self._newest.values())

    # For readiness.

    def describe(self) -> dict[str, Any]:
        """What is known, and how fresh it is."""
        now = time.monotonic()
        models = [live for endpoint in self.endpoints() for live in endpoint.models()]
        return {
            "endpoints": len(self._endpoints),
            "seconds_since_redis": None
            if self._reader.reached == float("-inf")
            else round(now - self._reader.reached, 1),
            "seconds_since_learner": round(self.learner.silent_seconds, 1),
            # Told, and no reason to call the process unready: requests may hold rows that they do
            # answer.
            "models_failing_examples": sorted({live.model.model for live in models if live.runtime and live.problem}),
            # The predecessor serves meanwhile, where there is one.
            "loading": self.loading(),
        }

    def champions_not_loaded(self) -> dict[str, str]:
        """What is wrong with each champion that this process could not load, by endpoint."""
        return {
            live.document.name: f"{live.champion.model.model}: {live.champion.problem}"
            for live in self.endpoints()
            if live.champion.runtime is None
        }

    def challengers_not_loaded(self) -> dict[str, str]:
        """The same of other arms, by endpoint and arm: their requests fall back to the champion."""
        return {
            f"{live.document.name}/{seat.name}": f"{arm.model.model}: {arm.problem}"
            for live in self.endpoints()
            if live.document.experiment is not None
            for seat, arm in zip(live.document.experiment.arms, live.arms, strict=True)
            if arm.runtime is None and arm is not live.champion
        }
