"""Which keys bundles may be signed with.

Trust begins with the keys that the app gives, or with those that the platform tells when it is
first asked; each bundle that is signed with one of them says which ones come after.
"""

from collections.abc import Callable, Mapping

import msgspec

from .bundle import Bundle, PublicKey
from .state import State

_ALGORITHM = "Ed25519"
_FIRST, _LEARNED = "keys", "learned-keys"
_encode = msgspec.json.Encoder().encode


class _Learned(msgspec.Struct, frozen=True):
    """Keys by id, and those that the app gave when they were learned: others begin anew."""

    pinned: dict[str, str] | None
    keys: dict[str, str]


class Trust:
    """In a device's state. `pinned`: by id in base64url, what the app gives; `ask` asks the
    platform for its keys."""

    def __init__(self, state: State, pinned: Mapping[str, str] | None, ask: Callable[[], list[PublicKey]]) -> None:
        self._state = state
        self._pinned = None if pinned is None else dict(pinned)
        self._ask = ask

    def keys(self) -> Mapping[str, str]:
        """By id in base64url. Raises what `ask` does."""
        body = self._state.get(_LEARNED)
        learned = None if body is None else msgspec.json.decode(body, type=_Learned)
        if learned is not None and learned.pinned == self._pinned:
            return learned.keys
        if self._pinned is not None:
            return self._pinned
        first = self._state.get(_FIRST)
        if first is None:
            first = _encode(_by_id(self._ask()))
            self._state.put({_FIRST: first})
        return msgspec.json.decode(first, type=dict[str, str])

    def learned_of(self, bundle: Bundle, now: float) -> dict[str, bytes]:
        """What is to be kept of a bundle whose signature was checked, beside it. An old one that
        somebody sends again teaches nothing once its time is over."""
        keys = _by_id(bundle.keys)
        if bundle.key_id not in keys or now >= bundle.expires_at.timestamp():
            return {}
        return {_LEARNED: _encode(_Learned(self._pinned, keys))}


def _by_id(keys: list[PublicKey]) -> dict[str, str]:
    return {key.id: key.public_key for key in keys if key.algorithm == _ALGORITHM}
