"""A bundle as the platform signs it, and the check of its signature."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from noregret_client.errors import NoregretError

_LAST_MEMBER = b',"signature":"'


class BundleNotTrusted(NoregretError):
    """The bundle is not signed by a key that is trusted, or was changed on its way."""


class Artifact(msgspec.Struct, frozen=True):
    """A model file."""

    sha256: str
    bytes: int
    url: str
    format: str


class LinearForm(msgspec.Struct, frozen=True):
    """sum[k] = intercepts[k] + sum over j of weights[k][j] * (row[j] - centers[j])."""

    centers: list[float]
    weights: list[list[float]]
    intercepts: list[float]
    link: str
    classes: list[int | str] | None = None


class BundleArm(msgspec.Struct, frozen=True):
    """An arm; `propensity` is None where it depends on the context."""

    name: str | None
    model: str
    control: bool
    enabled: bool
    propensity: float | None
    payload: Any = None
    outputs: list[str] = []
    artifact: Artifact | None = None
    parameters: LinearForm | None = None


class Policy(msgspec.Struct, frozen=True):
    """How propensities are made of a belief."""

    name: str
    params: dict[str, Any]
    floor: float
    burn_in: float


class Belief(msgspec.Struct, frozen=True):
    """What the policy believes of each arm's coefficients, by position."""

    mean: list[list[float]]
    covariance: list[list[list[float]]]
    counts: list[float]


class Reward(msgspec.Struct, frozen=True):
    """What a reward must be."""

    metric: str
    kind: str
    minimum: float | None = None
    maximum: float | None = None
    window_seconds: float = 0.0
    declared: bool = True
    """False: of a single deployment, whose values are any numbers or truths."""


class BundleColumn(msgspec.Struct, frozen=True):
    """A column of the models' rows."""

    name: str
    type: str = "number"
    nullable: bool = False


class PublicKey(msgspec.Struct, frozen=True):
    """A key that bundles may be signed with, in base64url."""

    id: str
    public_key: str
    algorithm: str = "Ed25519"


class Bundle(msgspec.Struct, frozen=True):
    """All that a device decides by. Members that a later platform adds are ignored."""

    endpoint: str
    version: int
    issued_at: datetime
    expires_at: datetime
    experiment: str | None
    experiment_id: int
    strategy: str
    choice: str
    arms: list[BundleArm]
    receipt: str
    key_id: str
    sticky: bool = False
    holdout: float = 0.0
    record: float = 1.0
    columns: list[BundleColumn] | None = None
    features: int | None = None
    feature_names: list[str] | None = None
    context: list[dict[str, Any]] = []
    policy: Policy | None = None
    belief: Belief | None = None
    reward: Reward | None = None
    keys: list[PublicKey] = []
    """Empty of a platform that does not tell them."""


_decode = msgspec.json.Decoder(Bundle).decode


def read(body: bytes, keys: Mapping[str, str]) -> Bundle:
    """The bundle of a body that was signed with one of these public keys (base64url, by id). Raises
    BundleNotTrusted."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    at = body.rfind(_LAST_MEMBER)
    if at < 0 or not body.endswith(b'"}'):
        raise BundleNotTrusted("the bundle is not signed")
    signature = body[at + len(_LAST_MEMBER) : -2]
    try:
        bundle = _decode(body)
        public = keys[bundle.key_id]
        Ed25519PublicKey.from_public_bytes(_raw(public.encode())).verify(_raw(signature), body[:at] + b"}")
    except KeyError as error:
        raise BundleNotTrusted("the bundle is signed with a key that is not trusted here") from error
    except InvalidSignature as error:
        raise BundleNotTrusted("the bundle's signature is not its own") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise BundleNotTrusted(f"the bundle can't be read: {error}") from error
    return bundle


def _raw(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
