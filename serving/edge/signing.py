"""The signature of bundles: Ed25519, so that a device can check one with a key that is no secret.

The key is derived from the service's secret, or set (NOREGRET_EDGE_SIGNING_KEYS), the derived one
among others where they say so: the first of those signs, and all of them are told, so that devices
learn of the next before it signs. Every process so has the same keys, and none is kept anywhere.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:  # loaded when the first bundle is signed
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED_BYTES = 32
_LAST_MEMBER = b',"signature":"'


class PublicKey(msgspec.Struct, frozen=True):
    """A key that bundles may be signed with: 32 bytes in base64url without padding."""

    id: str
    algorithm: str
    public_key: str


class PublicKeys(msgspec.Struct, frozen=True):
    """Those of this service, the one that signs first."""

    keys: list[PublicKey]


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


class BundleSigner:
    """Of a service with this secret, or with these seeds (32 bytes each; None is the derived
    one)."""

    def __init__(self, secret: str, seeds: Sequence[bytes | None] = ()) -> None:
        derived = hashlib.blake2b(secret.encode(), digest_size=SEED_BYTES, person=b"noregret.bundle").digest()
        self._seeds = tuple(derived if seed is None else seed for seed in seeds) or (derived,)
        self._keys: list[tuple[Ed25519PrivateKey, PublicKey]] = []

    def _all(self) -> "list[tuple[Ed25519PrivateKey, PublicKey]]":
        if not self._keys:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            self._keys = [(key, _told(key)) for key in map(Ed25519PrivateKey.from_private_bytes, self._seeds)]
        return self._keys

    @property
    def key_id(self) -> str:
        """Of the key that signs."""
        return self._all()[0][1].id

    def public(self) -> PublicKeys:
        return PublicKeys([told for _, told in self._all()])

    def signed(self, document: bytes) -> bytes:
        """A JSON object with `signature` as its last member, which is over the bytes that were
        given."""
        signature = self._all()[0][0].sign(document)
        return b"".join((document[:-1], _LAST_MEMBER, text_of(signature).encode(), b'"}'))


def _told(key: "Ed25519PrivateKey") -> PublicKey:
    raw = key.public_key().public_bytes_raw()
    return PublicKey(hashlib.sha256(raw).hexdigest()[:8], "Ed25519", text_of(raw))
