"""Copies of requests for shadow challengers: offered by requests, sent by a thread, dropped rather
than waited for.

A request puts its rows and the champion's answer into a bounded queue and goes on; a thread sends
what is there to the endpoint's shadow stream, which is bounded too. Another process predicts
(noregret.learning.shadows): a challenger that sleeps, leaks or dies costs the champion nothing.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import redis
import structlog

from . import metrics
from .redis_clients import SHADOWS
from .redis_keys import BODY_FIELD, Keys

log = structlog.get_logger(__name__)

VERSION = 1
QUEUE = 1000
STREAM = 5000
"""More copies than this wait in no endpoint's stream: the oldest are dropped."""
_PAUSE_SECONDS = 0.05
_AT_ONCE = 200


class ShadowEvent(msgspec.Struct, array_like=True, frozen=True):
    """A request's rows and what the champion answered. Fields are only ever added at the end, with
    a default."""

    version: int
    decision_id: bytes  # 16 bytes, as in DecisionEvent
    experiment_id: int
    rows: list[list[Any]]  # null where a column has none
    predicted: list[Any]
    latency_ms: float
    cached: bool = False  # the champion's answer was kept from an earlier call


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ShadowEvent)


def decode(body: bytes) -> ShadowEvent:
    """Raises ValueError for what is no event of this version."""
    try:
        event = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if event.version != VERSION or len(event.decision_id) != 16:
        raise ValueError(f"event version {event.version} where {VERSION} was expected, or no decision id")
    return event


class Shadower:
    """The copies of a process. The thread begins with the first copy."""

    def __init__(self, client: redis.Redis, keys: Keys, has_room: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._keys = keys
        self._has_room = has_room
        self._waiting: deque[tuple[str, ShadowEvent]] = deque()
        self._stop = threading.Event()
        self._begun = threading.Lock()
        self._thread: threading.Thread | None = None

    def offer(self, endpoint: str, event: ShadowEvent) -> bool:
        """Take a copy; False where too many wait already, here or in Redis."""
        if len(self._waiting) >= QUEUE or not self._has_room():
            metrics.SHADOWS_DROPPED.labels(endpoint).inc()
            return False
        self._waiting.append((endpoint, event))
        if self._thread is None:
            with self._begun:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="shadows", daemon=True)
                    self._thread.start()
        return True

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * SHADOWS.answer_seconds)

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            self._send()
        self._send()

    def _send(self) -> None:
        """Everything that waits; what Redis does not take is dropped, for a copy is worth no
        retry."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
            try:
                with self._client.pipeline(transaction=False) as pipeline:
                    for endpoint, event in batch:
                        body = {BODY_FIELD: _encoder.encode(event)}
                        pipeline.xadd(self._keys.shadows(endpoint), body, maxlen=STREAM, approximate=True)  # type: ignore[arg-type]  # bytes are taken
                    pipeline.execute()
            except (redis.RedisError, OSError) as error:
                log.warning("copies dropped", copies=len(batch), error=str(error))
                for endpoint, _ in batch:
                    metrics.SHADOWS_DROPPED.labels(endpoint).inc()
                time.sleep(_PAUSE_SECONDS)
