"""Loads models off the way of requests and of snapshots: each in a thread of its own, few at once,
and again where it failed.

A load may take seconds, and one that imports foreign code may never end. It then holds its thread
and nothing else: after SLOW_SECONDS another takes its turn, after LOAD_SECONDS it counts as failed,
and no more than THREADS hang at once. A load that failed is tried again after a growing pause for
as long as a snapshot names the model: the file may be there by then.
"""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from . import snapshot
from .artifacts import ArtifactMissing
from .live import BEING_LOADED, LiveModel, LoadRuntime, load_model, not_loaded

log = structlog.get_logger(__name__)

AT_ONCE = 4
SLOW_SECONDS = 10.0
LOAD_SECONDS = 120.0
THREADS = 16
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_FOR_A_FILE_SECONDS = 15.0

ModelKey = tuple[str, str | None]


def key_of(model: snapshot.Model) -> ModelKey:
    """What a model is loaded from; one that several endpoints serve is loaded once."""
    return model.model, model.sha256


@dataclass(slots=True)
class _Seat:
    """A model that some snapshot names."""

    live: LiveModel
    began: float | None = None  # the load that is under way; None: none is
    settled: bool = False  # has a load ended, well or not?
    failures: int = 0
    retry_at: float = float("-inf")


class ModelLoader:
    """The models of a process. `changed` is called with what came or failed, in the loading thread
    and without a lock."""

    def __init__(
        self, load: LoadRuntime, changed: Callable[[ModelKey], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._seats: dict[ModelKey, _Seat] = {}
        self._threads: dict[threading.Thread, float] = {}  # loads under way, wanted or not, and when they began

    def get(self, model: snapshot.Model) -> LiveModel:
        """The model as it is now: loaded, failed, or being loaded, which this begins if it must.
        Never waits for a load."""
        key = key_of(model)
        with self._lock:
            seat = self._seats.get(key)
            if seat is None:
                seat = self._seats[key] = _Seat(not_loaded(model, BEING_LOADED, is_loading=True))
                self._begin_waiting()
        return seat.live

    def is_settled(self, model: snapshot.Model) -> bool:
        """Is the model loaded, or has it failed at least once?"""
        seat = self._seats.get(key_of(model))
        return seat is not None and seat.settled

    def keep_only(self, keys: Collection[ModelKey]) -> None:
        """Drop what no snapshot names any more; a load under way ends for nothing."""
        with self._lock:
            for key in self._seats.keys() - keys:
                del self._seats[key]

    def tick(self) -> None:
        """Give up loads that take too long, and begin those whose turn it is."""
        gave_up: list[ModelKey] = []
        with self._lock:
            now = self._clock()
            for key, seat in self._seats.items():
                if seat.began is not None and not seat.settled and now - seat.began > LOAD_SECONDS:
                    problem = f"not loaded within {LOAD_SECONDS:g} s"
                    log.error("model not loaded", model=seat.live.model.model, error=problem)
                    seat.live, seat.settled = not_loaded(seat.live.model, problem), True
                    gave_up.append(key)
            self._begin_waiting()
        for key in gave_up:
            self._changed(key)

    def _begin_waiting(self) -> None:
        """Begin loads while there is room. Called with the lock held."""
        now = self._clock()
        for key, seat in self._seats.items():
            if not self._has_room(now):
                return
            if seat.began is None and seat.live.runtime is None and now >= seat.retry_at:
                self._begin(key, seat, now)

    def _has_room(self, now: float) -> bool:
        young = sum(now - began <= SLOW_SECONDS for began in self._threads.values())
        return young < AT_ONCE and len(self._threads) < THREADS

    def _begin(self, key: ModelKey, seat: _Seat, now: float) -> None:
        thread = threading.Thread(target=self._run, args=(key, seat), name=f"load-{key[0]}", daemon=True)
        seat.began = self._threads[thread] = now
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            del self._threads[thread]
            seat.began, seat.retry_at = None, now + FIRST_PAUSE_SECONDS

    def _run(self, key: ModelKey, seat: _Seat) -> None:
        longest = LONGEST_PAUSE_SECONDS
        try:
            live = load_model(self._load, seat.live.model)
        except BaseException as error:  # foreign code may raise anything; a file may be missing or damaged
            log.error("model not loaded", model=seat.live.model.model, error=repr(error))
            live = not_loaded(seat.live.model, f"{type(error).__name__}: {error}")
            if isinstance(error, ArtifactMissing):
                longest = LONGEST_PAUSE_FOR_A_FILE_SECONDS
        with self._lock:
            self._threads.pop(threading.current_thread(), None)
            seat.live, seat.began, seat.settled = live, None, True
            if live.runtime is None:
                seat.retry_at = self._clock() + min(FIRST_PAUSE_SECONDS * 2.0**seat.failures, longest)
                seat.failures = min(seat.failures + 1, 10)
        self.tick()
        self._changed(key)
