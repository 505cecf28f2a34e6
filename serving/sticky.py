"""A unit keeps its arm under a bandit whose probabilities move: assignments in Redis, with a copy in each process.

A unit that this process knows costs no round trip; one that it does not know costs one, before the prediction: `SET ... NX` and `GETEX` in
one pipeline take the unit's arm if it has one and claim the proposed one if not, so of several processes that meet a new unit at once
all serve the same arm. What is kept is the arm and the probabilities that it was drawn with: these are logged with each of the unit's
decisions. While Redis is away units are routed afresh, and nothing is remembered.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
import redis
import structlog

from .redis_keys import Keys

log = structlog.get_logger(__name__)

STICKY_TIMEOUT_SECONDS = 0.05
KEPT_SECONDS = 30 * 86_400
"""An assignment lives so long after it was last looked up in Redis."""
# Looked up in Redis again after this long, so that the assignment of a unit that comes daily does not expire there.
_TRUSTED_SECONDS = 86_400.0
_UNITS = 100_000
_PAUSE_SECONDS = 1.0


class Assignment(msgspec.Struct, array_like=True, frozen=True):
    """A unit's arm, and every arm's probability when it was drawn."""

    arm_id: int
    propensities: list[float]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Assignment)


class Assignments:
    """Those of a process."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._held: OrderedDict[tuple[int, str], tuple[Assignment, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._paused_until = 0.0

    def get(
        self,
        endpoint: str,
        experiment_id: int,
        unit: str,
        proposed: Assignment,
        arms: Sequence[int],
        *,
        now: float | None = None,
    ) -> Assignment:
        """The unit's assignment, which becomes `proposed` where it has none, or one to an arm that is not in `arms` (by id) any more."""
        at = time.monotonic() if now is None else now
        key = (experiment_id, unit)
        held = self._held.get(key)
        if held is not None and at - held[1] < _TRUSTED_SECONDS and held[0].arm_id in arms:
            return held[0]
        if at < self._paused_until:
            return proposed
        try:
            found = self._ask(self._keys.sticky(endpoint, experiment_id, unit), proposed, arms)
        except (redis.RedisError, OSError) as error:
            self._paused_until = at + _PAUSE_SECONDS
            log.warning("assignment not kept", endpoint=endpoint, error=str(error))
            return proposed
        with self._lock:
            self._held[key] = (found, at)
            self._held.move_to_end(key)
            while len(self._held) > _UNITS:
                self._held.popitem(last=False)
        return found

    def _ask(self, name: str, proposed: Assignment, arms: Sequence[int]) -> Assignment:
        body = _encoder.encode(proposed)
        # `SET ... NX GET` in one would need Redis 7.
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(name, body, nx=True, ex=KEPT_SECONDS)
            pipeline.getex(name, ex=KEPT_SECONDS)
            claimed, before = pipeline.execute()
        if claimed or before is None:
            return proposed
        try:
            held = _decoder.decode(before)
        except msgspec.DecodeError:
            held = None
        if held is not None and held.arm_id in arms:
            return held
        self._client.set(name, body, ex=KEPT_SECONDS)
        return proposed
