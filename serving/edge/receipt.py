"""The receipt of a bundle: what the platform must know again to check an event under it.

It goes out in the bundle and comes back with the events, signed, so that no bundle is remembered
here. Only this service reads it.
"""

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache
from typing import Any, Literal

import msgspec

from serving.snapshot import Endpoint, Experiment

VERSION = 1
_MAC_BYTES = 16
LONGEST = 512 * 1024
"""Characters. The belief of a hundred arms of 64 features does not fit; nor would a device want
it."""

Choice = Literal["single", "hash", "draw", "context"]
"""How an arm is chosen: there is one; by the unit's hash; drawn; drawn as the context says."""


class InvalidReceipt(ValueError):
    """Not a receipt that this service gave out."""


class TooLarge(ValueError):
    """What a policy believes is too much for a device."""


class Seat(msgspec.Struct, array_like=True, frozen=True):
    """An arm, in its position; of a single deployment the champion, without a name."""

    arm_id: int
    name: str | None
    propensity: float  # 0 where it depends on the context
    enabled: bool
    is_control: bool


class Rules(msgspec.Struct, array_like=True, frozen=True):
    """How a contextual policy makes propensities of a context. `counts` of rewards are cut off at
    `burn_in`, which is all that they are held against."""

    policy: str
    params: dict[str, Any]
    floor: float
    burn_in: int
    context: list[dict[str, Any]]
    counts: list[float]
    mean: list[list[float]]
    covariance: list[list[list[float]]]


class Receipt(msgspec.Struct, array_like=True, frozen=True):
    """Of one bundle. Fields are only ever added at the end, with a default."""

    version: int
    endpoint_id: int
    endpoint: str
    policy_version: int
    issued_at: float  # Unix time, seconds
    expires_at: float
    experiment_id: int  # or the baseline's
    choice: Choice
    seats: list[Seat]
    is_sticky: bool
    holdout: float
    record: float  # share of decisions that are kept
    is_evidence: bool
    context: list[dict[str, Any]] = []  # declared fields, whatever the choice
    rules: Rules | None = None
    takes_exclusions: bool = False  # what excluded arms is evidence too

    def names(self) -> list[str | None]:
        return [seat.name for seat in self.seats]


def receipt_of(document: Endpoint, choice: Choice, issued_at: float, expires_at: float) -> Receipt:
    """What a bundle of this snapshot gives."""
    experiment = document.experiment
    if experiment is None:
        baseline = document.baseline
        seat = Seat(0 if baseline is None else baseline.model_id, None, 1.0, True, True)
        number, record = (0, 0.0) if baseline is None else (baseline.id, baseline.record)
        seats, sticky, holdout, evidence = [seat], False, 0.0, True
    else:
        number, record, sticky = experiment.id, 1.0, experiment.sticky
        holdout, evidence = experiment.holdout, experiment.edge_evidence
        seats = [
            Seat(arm.id, arm.name, arm.propensity, arm.enabled, arm.is_control) for arm in _as_served(experiment).arms
        ]
    return Receipt(
        VERSION,
        document.id,
        document.name,
        document.version,
        issued_at,
        expires_at,
        number,
        choice,
        seats,
        sticky and choice in ("draw", "context"),
        holdout if choice in ("draw", "context") and any(seat.is_control and seat.enabled for seat in seats) else 0.0,
        record,
        evidence,
        [] if experiment is None else experiment.context,
        _rules(experiment) if choice == "context" and experiment is not None else None,
        experiment is not None and experiment.edge_exclusions,
    )


def choice_of(document: Endpoint) -> Choice:
    """How a device chooses by this snapshot.

    What a policy would choose by counting its own pulls, it chooses here with the propensities that
    it had when the snapshot was made: a device counts none but its own.
    """
    experiment = document.experiment
    if experiment is None:
        return "single"
    if experiment.strategy != "bandit" or _serves_control_alone(experiment):
        return "hash"
    return "draw" if experiment.belief is None else "context"


def _serves_control_alone(experiment: Experiment) -> bool:
    """An apprentice's policy proposes, and its control serves."""
    return experiment.apprentice and any(arm.is_control and arm.enabled for arm in experiment.arms)


def _as_served(experiment: Experiment) -> Experiment:
    if not _serves_control_alone(experiment):
        return experiment
    arms = [msgspec.structs.replace(arm, propensity=float(arm.is_control)) for arm in experiment.arms]
    return msgspec.structs.replace(experiment, arms=arms)


def _rules(experiment: Experiment) -> Rules:
    policy, belief = experiment.policy, experiment.belief
    assert policy is not None
    assert belief is not None
    ever = [arm.count if arm.learned is None else arm.learned for arm in experiment.arms]
    return Rules(
        policy.name,
        policy.params,
        policy.floor,
        policy.burn_in,
        experiment.context,
        [min(count, float(policy.burn_in)) for count in ever],
        belief.mean,
        belief.covariance,
    )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Receipt)


class Receipts:
    """Signs and reads receipts under one secret."""

    def __init__(self, secret: str) -> None:
        # Derived, so that a receipt can never pass for another thing signed with the same secret.
        self._key = hashlib.blake2b(secret.encode(), digest_size=32, person=b"noregret.edge").digest()
        self.read = lru_cache(maxsize=256)(self._read)

    def _mac(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self._key, digest_size=_MAC_BYTES).digest()

    def mark(self, body: bytes) -> bytes:
        """16 bytes that who has no secret can't make of a body; never those of a receipt."""
        return hashlib.blake2b(body, key=self._key, digest_size=_MAC_BYTES, person=b"noregret.told").digest()

    def sign(self, receipt: Receipt) -> str:
        """Raises TooLarge."""
        body = _encoder.encode(receipt)
        text = base64.urlsafe_b64encode(self._mac(body) + body).rstrip(b"=").decode("ascii")
        if len(text) > LONGEST:
            raise TooLarge(f"{len(text)} characters")
        return text

    def _read(self, text: str) -> Receipt:
        """Raises InvalidReceipt."""
        if len(text) > LONGEST:
            raise InvalidReceipt("too long")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidReceipt("not base64url") from error
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise InvalidReceipt("wrong signature")
        receipt = _decoder.decode(body)
        if receipt.version != VERSION:
            raise InvalidReceipt(f"version {receipt.version}")
        return receipt
