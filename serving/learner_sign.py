"""What the learner says of itself, once a look: that it lives, and which endpoints it is behind
with.

One write for both, so that a reader never has the one without the other. An endpoint that is not
named is well, for as long as the sign is fresh: whoever gave it has looked at every endpoint.
Durations and no times are told, for two machines' clocks may differ.
"""

import time
from collections.abc import Mapping

import msgspec
import structlog

log = structlog.get_logger(__name__)


class Lag(msgspec.Struct, array_like=True, frozen=True):
    """How many seconds the learner has been behind with an endpoint, and with what, in words."""

    seconds: float
    why: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Lag])


def encode(lagging: Mapping[str, Lag]) -> bytes:
    return _encoder.encode(dict(lagging))


def decode(body: bytes | None) -> dict[str, Lag]:
    """By endpoint. Empty where nothing was written: a learner of before told of nobody alone.
    Raises msgspec.DecodeError."""
    return {} if body is None else _decoder.decode(body)


class LearnerWatch:
    """What one process has seen of the learner's signs. The learner lives if its sign changes while
    we watch, whatever clocks say."""

    def __init__(self) -> None:
        self._sign: bytes | None = None
        self._seen = time.monotonic()
        self._lagging: dict[str, Lag] = {}

    def note(self, sign: bytes | None, lagging: bytes | None) -> None:
        """What Redis holds now: the time of the sign, and who lags. Never raises."""
        if sign is None or sign == self._sign:
            return
        first, self._sign = self._sign is None, sign
        age = max(0.0, time.time() - float(sign)) if first else 0.0
        try:
            self._lagging = decode(lagging)
        except msgspec.DecodeError as error:
            log.warning("the learner's sign could not be read", error=str(error))
        self._seen = time.monotonic() - age

    @property
    def silent_seconds(self) -> float:
        """Since the last sign; before the first, since this process began to watch."""
        return time.monotonic() - self._seen

    def behind_seconds(self, endpoint: str) -> float:
        """How long the learner has been behind with an endpoint; 0 where it said nothing of it."""
        lag = self._lagging.get(endpoint)
        return 0.0 if lag is None else lag.seconds + self.silent_seconds

    @property
    def lagging(self) -> dict[str, Lag]:
        """As it was last told."""
        return self._lagging
