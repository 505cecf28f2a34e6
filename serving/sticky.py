"""A unit keeps its arm under a bandit whose probabilities move: assignments in Redis, with a copy
in each process.

A unit that this process knows costs no round trip; one that it does not know costs one, before the
prediction: a script takes the unit's arm if it has one and claims the proposed one if not, so of
several processes that meet a new unit at once all serve the same arm. What is kept is the arm and
the probabilities that its hash chose by: these are logged with each of the unit's decisions. While
Redis is away a unit gets what its hash gives by the probabilities of that moment, and nothing is
remembered.

When Redis was emptied the learner puts the arms back from the ledger, and then says so
(`Restoration`). An arm that a unit was given before that is provisional: it is kept in Redis like
any other, so that the unit meets one arm meanwhile, but processes trust it for seconds only, and
the arm that the ledger knows takes its place.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import msgspec
import redis
import structlog

from .assignment import Assignment as Assignment
from .redis_keys import Keys

log = structlog.get_logger(__name__)

KEPT_SECONDS = 30 * 86_400
"""An assignment lives so long after it was last looked up in Redis."""
# Looked up in Redis again after this long, so that the assignment of a unit that comes daily does
# not expire there.
_TRUSTED_SECONDS = 86_400.0
PROVISIONAL_SECONDS = 5.0
"""So long a process trusts an arm that the ledger's may take the place of."""
_UNITS = 100_000
_PAUSE_SECONDS = 1.0
RESTORED = b"restored"
_UNTIL = b"until:"

# KEYS[1] {NAME}:sticky:E   KEYS[2] {NAME}:sticky:E:UNIT
# ARGV[1] what KEYS[1] holds when all arms are restored   ARGV[2] assignment
# ARGV[3] the same, provisional   ARGV[4] seconds that it lives
# Returns what KEYS[1] holds, and the assignment that there was, nil where the given one was
# written.
_CLAIM = """
local state = redis.call('GET', KEYS[1])
local body = state == ARGV[1] and ARGV[2] or ARGV[3]
if redis.call('SET', KEYS[2], body, 'EX', ARGV[4], 'NX') then return {state, false} end
return {state, redis.call('GETEX', KEYS[2], 'EX', ARGV[4])}
"""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Assignment)


def _decode(body: bytes | None) -> Assignment | None:
    try:
        return None if body is None else _decoder.decode(body)
    except msgspec.DecodeError:
        return None


class Assignments:
    """Those of a process. `has_reserve`: may Redis be filled further? Otherwise units that it does
    not know are routed afresh."""

    def __init__(self, client: redis.Redis, keys: Keys, has_reserve: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._claim = client.register_script(_CLAIM)
        self._keys = keys
        self._has_reserve = has_reserve
        self._held: OrderedDict[tuple[int, str], tuple[Assignment, float]] = (
            OrderedDict()
        )  # and until when it is trusted
        self._lock = threading.Lock()
        self._paused_until = 0.0

    def known(
        self, experiment_id: int, unit: str, arms: Sequence[int], *, now: float | None = None
    ) -> Assignment | None:
        """The unit's assignment to one of `arms` (by id), where this process knows and trusts
        it."""
        held = self._held.get((experiment_id, unit))
        at = time.monotonic() if now is None else now
        return held[0] if held is not None and at < held[1] and held[0].arm_id in arms else None

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
        """The unit's assignment, which becomes `proposed` where it has none, or one to an arm that
        is not in `arms` (by id) any more."""
        at = time.monotonic() if now is None else now
        key = (experiment_id, unit)
        known = self.known(experiment_id, unit, arms, now=at)
        if known is not None:
            return known
        if at < self._paused_until:
            return proposed
        try:
            found, trusted = self._ask(endpoint, experiment_id, unit, proposed, arms)
        except (redis.RedisError, OSError) as error:
            self._paused_until = at + _PAUSE_SECONDS
            log.warning("assignment not kept", endpoint=endpoint, error=str(error))
            return proposed
        with self._lock:
            self._held[key] = (found, at + trusted)
            self._held.move_to_end(key)
            while len(self._held) > _UNITS:
                self._held.popitem(last=False)
        return found

    def _ask(
        self, endpoint: str, experiment_id: int, unit: str, proposed: Assignment, arms: Sequence[int]
    ) -> tuple[Assignment, float]:
        """The assignment, and for how many seconds it is to be trusted."""
        marker = self._keys.restored(endpoint, experiment_id)
        name = self._keys.sticky(endpoint, experiment_id, unit)
        body, provisional = _encoder.encode(proposed), _encoder.encode(proposed._replace(provisional=True))
        claim = self._has_reserve()
        if claim:
            answer = self._claim(keys=[marker, name], args=[RESTORED, body, provisional, KEPT_SECONDS])
        else:
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.get(marker)
                pipeline.getex(name, ex=KEPT_SECONDS)
                answer = pipeline.execute()
        state, before = cast("list[bytes | None]", answer)
        restored = state == RESTORED
        if before is not None:
            found = _decode(before)
            if found is not None and found.arm_id in arms:
                seconds = PROVISIONAL_SECONDS if found.provisional and not restored else _TRUSTED_SECONDS
                return found._replace(provisional=False), seconds
            if claim:
                self._client.set(name, body if restored else provisional, ex=KEPT_SECONDS)
        return proposed, (_TRUSTED_SECONDS if restored else PROVISIONAL_SECONDS) if claim else 0.0


class Restoration:
    """Puts the arms of one experiment's units back into Redis: for who reads the ledger. Raises
    redis.RedisError throughout."""

    def __init__(self, client: redis.Redis, keys: Keys, endpoint: str, experiment_id: int) -> None:
        self._client = client
        self._keys = keys
        self._endpoint = endpoint
        self._experiment_id = experiment_id

    @staticmethod
    def is_finished(state: bytes | None) -> bool:
        """Says what the marker holds that all arms are restored?"""
        return state == RESTORED

    @property
    def _marker(self) -> str:
        return self._keys.restored(self._endpoint, self._experiment_id)

    def done_until(self) -> str | None:
        """The last unit that was put back, in the order of who puts them back, "" for none; None
        when all are."""
        state = cast("bytes | None", self._client.get(self._marker))
        if self.is_finished(state):
            return None
        return state.removeprefix(_UNTIL).decode() if state is not None and state.startswith(_UNTIL) else ""

    def put(self, assignments: Mapping[str, Assignment]) -> int:
        """By unit; how many were written. What a unit has otherwise stands, unless it is
        provisional or damaged."""
        names = {self._keys.sticky(self._endpoint, self._experiment_id, unit): unit for unit in assignments}
        if not names:
            return 0
        held = cast("list[bytes | None]", self._client.mget(list(names)))
        written = 0
        with self._client.pipeline(transaction=False) as pipeline:
            for (name, unit), body in zip(names.items(), held, strict=True):
                there = _decode(body)
                if there is None or there.provisional:
                    pipeline.set(name, _encoder.encode(assignments[unit]), ex=KEPT_SECONDS)
                    written += 1
            pipeline.execute()
        return written

    def note(self, unit: str) -> None:
        """That all units up to this one are put back."""
        self._client.set(self._marker, _UNTIL + unit.encode(), ex=KEPT_SECONDS)

    def finish(self) -> None:
        """That all of them are."""
        self._client.set(self._marker, RESTORED, ex=KEPT_SECONDS)
