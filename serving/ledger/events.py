"""What a decision looks like on its way from a web process to the ledger: one msgpack array a
stream entry."""

from collections.abc import Sequence
from typing import Any

import msgspec

VERSION = 1
WAITING = 2
"""The version of a decision that waits for its activation: a learner that knows none of that would
learn from it, and sets it aside instead."""
_KNOWN = (VERSION, WAITING)


class DecisionEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One decision. Fields are only ever added at the end, with a default: entries outlive the
    process that wrote them."""

    version: int
    id: bytes  # 16 bytes; the first 8 are the time in microseconds since 1970, big-endian (serving.tokens)
    experiment_id: int
    arm_id: int
    propensities: list[float]  # by arm position
    propensity: float
    policy_version: int
    unit: str | None
    context: dict[str, Any] | None
    request_id: str | None
    latency_ms: float
    fallback_reason: str | None
    holdout: bool = False  # the control served because the unit is held out of the bandit
    proposed_arm_id: int | None = None  # an apprentice's choice
    excluded: list[int] | None = None  # arms, by id, that the request was not for
    activated_us: int | None = None  # when one that waited was activated, in microseconds since 1970
    edge_us: int | None = None  # when a device says that it decided, in microseconds since 1970; None: decided here

    @property
    def waits(self) -> bool:
        """Is nothing to be learned of it yet?"""
        return self.version == WAITING and self.activated_us is None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DecisionEvent)


def encode(event: DecisionEvent) -> bytes:
    return _encoder.encode(event)


def decode(body: bytes) -> DecisionEvent:
    """Raises ValueError for what is no event of this version."""
    try:
        event = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if event.version not in _KNOWN:
        raise ValueError(f"event version {event.version} where {VERSION} or {WAITING} was expected")
    if len(event.id) != 16:
        raise ValueError(f"decision id of {len(event.id)} bytes where 16 were expected")
    return event


def decode_all(bodies: Sequence[bytes]) -> list[DecisionEvent]:
    """Raises ValueError where one of them is no event of this version."""
    try:
        events = list(map(_decoder.decode, bodies))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if any(event.version not in _KNOWN or len(event.id) != 16 for event in events):
        raise ValueError("one of them is of another version")
    return events
