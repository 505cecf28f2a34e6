"""Decision ids: signed and self-contained, so that feedback needs no lookup and outstanding
decisions cost no memory.

An id is the base64url form of a fixed record (which experiment and arm, with which probability,
from which policy version, when) and its keyed BLAKE2b. Who has no key can neither make one nor
change one; what it says is no secret.
"""

import base64
import binascii
import hashlib
import hmac
import os
import struct
import time
from typing import NamedTuple

VERSION = 1
_RECORD = struct.Struct(">BB16sQQQd")  # version, flags, id, experiment, arm, policy version, propensity
_MAC_BYTES = 16
# A decision that waits is learnable by another bit: a reader that knows none of waiting takes it
# for one that is not, and no feedback for it.
_LEARNABLE, _WAITS, _LEARNABLE_ONCE_ACTIVATED = 1, 2, 4
TEXT_LENGTH = (_RECORD.size + _MAC_BYTES + 2) // 3 * 4


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


class InvalidToken(ValueError):
    """Not an id that this service gave out."""


class Token(NamedTuple):
    """What a decision id says."""

    id: bytes  # 16 bytes: time in microseconds (8, big-endian), then randomness
    experiment_id: int  # 0: no experiment was running
    arm_id: int
    policy_version: int
    propensity: float
    learnable: bool
    waits: bool = False  # for its activation, before which nothing is learned of it

    @property
    def decided_at_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return int.from_bytes(self.id[:8], "big")


def new_id() -> bytes:
    """A fresh decision id: sorted by time, with 64 random bits against collision."""
    return (time.time_ns() // 1000).to_bytes(8, "big") + os.urandom(8)


class Signer:
    """Signs and reads decision ids under one secret."""

    def __init__(self, secret: str) -> None:
        # Derived, so that a decision id can never pass for another thing signed with the same
        # secret.
        self._key = hashlib.blake2b(secret.encode(), digest_size=32, person=b"noregret.token").digest()

    def _mac(self, record: bytes) -> bytes:
        return hashlib.blake2b(record, key=self._key, digest_size=_MAC_BYTES).digest()

    def sign(self, token: Token) -> str:
        record = _RECORD.pack(
            VERSION,
            _flags(token),
            token.id,
            token.experiment_id,
            token.arm_id,
            token.policy_version,
            token.propensity,
        )
        return _text(record + self._mac(record))

    def read(self, text: str) -> Token:
        """Raises InvalidToken."""
        if len(text) > TEXT_LENGTH:
            raise InvalidToken("too long")
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError) as error:
            raise InvalidToken("not base64url") from error
        # The decoder takes a second alphabet, drops foreign characters and ignores spare bits: many
        # texts would be one id.
        if _text(raw) != text:
            raise InvalidToken("not base64url")
        record, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if len(record) != _RECORD.size or not hmac.compare_digest(mac, self._mac(record)):
            raise InvalidToken("wrong signature")
        version, flags, decision, experiment, arm, policy_version, propensity = _RECORD.unpack(record)
        if version != VERSION:
            raise InvalidToken(f"version {version}")
        waits = bool(flags & _WAITS)
        learnable = bool(flags & (_LEARNABLE_ONCE_ACTIVATED if waits else _LEARNABLE))
        return Token(decision, experiment, arm, policy_version, propensity, learnable, waits)


def _flags(token: Token) -> int:
    if token.waits:
        return _WAITS | (_LEARNABLE_ONCE_ACTIVATED if token.learnable else 0)
    return _LEARNABLE if token.learnable else 0
