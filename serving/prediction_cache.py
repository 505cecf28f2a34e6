"""What models answered, kept in this process for requests with the same rows (ADR 0064).

An answer is found by the model version and by the rows as the model gets them: whatever JSON spelt
them, the bits of the arrays are the key. Zero and minus zero are different bits, and a model may
tell them apart, so each has its own answer; null is one NaN, whichever way it came. Only what a
model answered is kept, never a failure. Nothing here decides, records or counts for learning.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from . import snapshot
from .deadline import DeadlineExceeded, WaitedInVain
from .runtimes.columns import Rows, Table
from .runtimes.protocol import Kept
from .runtimes.runtime import Outputs

OVERHEAD_BYTES = 400
"""What an answer takes beside its own bytes: its key, its place and their objects."""
LARGEST_SHARE = 1 / 16
"""Of the bytes of a process, the most that one answer may take: one request moves few others
out."""

_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Outputs] = msgspec.msgpack.Decoder(dict[str, list[Any]]).decode


class Answered(NamedTuple):
    """`is_kept`: the model was not called for it."""

    outputs: Outputs
    is_kept: bool


class _Kept(NamedTuple):
    body: bytes  # MessagePack: nobody who gets an answer can change another's
    asked_at: float

    @property
    def cost(self) -> int:
        return len(self.body) + OVERHEAD_BYTES


class _Flight:
    """A call that is under way, for whoever asks the same meanwhile.

    `patience`: after so many seconds it is waited for no more, and the next call is made.
    """

    def __init__(self, patience: float) -> None:
        self.over = threading.Event()
        self.outputs: Outputs | None = None  # None: it failed, or is not over
        self.is_late = False  # did it not come back in time?
        self.began = time.perf_counter()
        self.patience = patience
        self.seconds = 0.0  # that it took, once it is over


class PredictionCache:
    """The answers of one endpoint's models. Thread-safe.

    `entries`: the most answers. `seconds`: how long one is good for, counted from when it was asked
    for; None: for ever.
    """

    def __init__(self, process: "PredictionCaches", entries: int, seconds: float | None) -> None:
        self._process = process
        self._answers: OrderedDict[bytes, _Kept] = OrderedDict()  # the one asked for longest ago first
        self._flights: dict[bytes, _Flight] = {}
        self.entries, self.seconds = entries, seconds
        self.bytes = 0
        self.is_open = True

    def __len__(self) -> int:
        return len(self._answers)

    def takes(self, kept: Kept) -> bool:
        """Are answers of such a model kept here (`serving.runtimes.Model.kept`)?"""
        return kept == "always" or (kept == "for-a-time" and self.seconds is not None)

    def answer(
        self, model: snapshot.Model, rows: Rows, call: Callable[[], Outputs], deadline: float, *, patience: float | None
    ) -> Answered:
        """What is kept for these rows, or what `call` gives, which is kept then.

        `patience`: of requests that ask the same at once one calls, and the others wait for it, at
        most until `deadline` (time.perf_counter). Once it has taken so many seconds one of them
        makes the next call, which has twice as long. Where a call fails they call themselves,
        unless it was for want of more time than they have. None: each calls. Raises WaitedInVain,
        and what `call` raises.
        """
        key = key_of(model, rows)
        if key is None:
            return Answered(call(), is_kept=False)
        outputs = self._get(key)
        if outputs is not None:
            return Answered(outputs, is_kept=True)
        if patience is None:
            return Answered(self._called(key, call), is_kept=False)
        given_up: _Flight | None = None
        while True:
            flight, is_mine = self._boarded(key, given_up, patience)
            if is_mine:
                return self._flown(key, flight, call)
            flight.over.wait(max(0.0, min(deadline, flight.began + flight.patience) - time.perf_counter()))
            if flight.outputs is not None:
                return Answered(flight.outputs, is_kept=True)
            left = deadline - time.perf_counter()
            if left <= 0.0 or (flight.is_late and left <= flight.seconds):
                raise WaitedInVain(model.model)
            if flight.over.is_set() and not flight.is_late:
                return Answered(self._called(key, call), is_kept=False)
            given_up = flight

    def _boarded(self, key: bytes, given_up: _Flight | None, patience: float) -> tuple[_Flight, bool]:
        """The call to wait for, and whether it is the caller's own to make, as where there is none
        but the one that was given up."""
        with self._process.lock:
            flight = self._flights.get(key)
            if flight is not None and flight is not given_up:
                return flight, False
            mine = _Flight(patience if given_up is None else 2.0 * given_up.patience)
            self._flights[key] = mine
        return mine, True

    def _flown(self, key: bytes, mine: _Flight, call: Callable[[], Outputs]) -> Answered:
        try:
            mine.outputs = self._get(key)  # of a call that ended since the caller looked
            if mine.outputs is not None:
                return Answered(mine.outputs, is_kept=True)
            mine.outputs = self._called(key, call)
            return Answered(mine.outputs, is_kept=False)
        except DeadlineExceeded:
            mine.is_late = True
            raise
        finally:
            with self._process.lock:
                if self._flights.get(key) is mine:
                    del self._flights[key]
            mine.seconds = time.perf_counter() - mine.began
            mine.over.set()

    def _called(self, key: bytes, call: Callable[[], Outputs]) -> Outputs:
        asked_at = self._process.clock()
        outputs = call()
        try:
            kept = _Kept(_encode(outputs), asked_at)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return outputs  # JSON may hold what MessagePack has no form for, as integers of 100 digits
        self._put(key, kept)
        return outputs

    def _get(self, key: bytes) -> Outputs | None:
        with self._process.lock:
            kept = self._answers.get(key)
            if kept is None:
                return None
            if self.seconds is not None and self._process.clock() - kept.asked_at >= self.seconds:
                self._drop(key)
                return None
            self._answers.move_to_end(key)
        return _decode(kept.body)

    def _put(self, key: bytes, kept: _Kept) -> None:
        process = self._process
        if kept.cost > process.limit * LARGEST_SHARE:
            return
        with process.lock:
            if not self.is_open:
                return
            self._drop(key)
            self._answers[key] = kept
            self.bytes += kept.cost
            process.bytes += kept.cost
            while len(self._answers) > self.entries:
                self.drop_oldest()
            process.make_room()

    def drop_oldest(self) -> None:
        """With the process's lock held, and an answer there."""
        self._drop(next(iter(self._answers)))

    def _drop(self, key: bytes) -> None:
        kept = self._answers.pop(key, None)
        if kept is not None:
            self.bytes -= kept.cost
            self._process.bytes -= kept.cost

    def close(self) -> None:
        """Give everything back; what a call under way brings is not kept. With the process's lock
        held."""
        self.is_open = False
        self._answers.clear()
        self._process.bytes -= self.bytes
        self.bytes = 0


class PredictionCaches:
    """Those of a process, one an endpoint that wants one. `limit`: the most bytes of all together;
    the endpoint that holds the most makes room, so that none is pushed out by another's traffic
    while it holds less."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.clock = clock
        self.lock = threading.Lock()  # held for moments: nothing is computed or waited for under it
        self.bytes = 0
        self._caches: dict[str, PredictionCache] = {}

    def of(self, endpoint: snapshot.Endpoint) -> PredictionCache | None:
        """The endpoint's, with the limits that it has now; None where it wants none."""
        wanted = endpoint.cache
        if wanted is None:
            return None
        with self.lock:
            cache = self._caches.get(endpoint.name)
            if cache is None:
                cache = self._caches[endpoint.name] = PredictionCache(self, wanted.entries, wanted.seconds)
            cache.entries, cache.seconds = wanted.entries, wanted.seconds
        return cache

    def keep_only(self, endpoints: Collection[str]) -> None:
        """Drop the caches of all others."""
        with self.lock:
            for name in self._caches.keys() - set(endpoints):
                self._caches.pop(name).close()

    def make_room(self) -> None:
        """With the lock held."""
        while self.bytes > self.limit:
            max(self._caches.values(), key=lambda cache: cache.bytes).drop_oldest()


def key_of(model: snapshot.Model, rows: Rows) -> bytes | None:
    """32 bytes that stand for a model version and rows as it gets them; None for rows that have no
    bytes (text that is no Unicode)."""
    digest = blake2b(f"{model.model}\0{model.sha256}\0".encode(), digest_size=32)
    if not isinstance(rows, Table):
        digest.update(b"%d %d\0" % rows.shape)
        digest.update(rows.tobytes())
        return digest.digest()
    for column, array in zip(rows.columns, rows.arrays, strict=True):
        try:
            body = _encode(array.tolist()) if array.dtype.kind == "O" else array.tobytes()
            digest.update(_encode((column.name, array.dtype.str, len(array), len(body))))
        except UnicodeEncodeError:
            return None
        digest.update(body)
    return digest.digest()
