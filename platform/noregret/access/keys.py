"""Makes and revokes API keys."""

import secrets
from collections.abc import Collection
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from noregret.names import validate_name
from noregret.trail import audit
from serving.api.keys import PREFIX, digest

from .models import ApiKey
from .publish import publish_access

SCOPES = ("predict", "feedback", "manage", "edge")
LONGEST = timedelta(days=36_500)
"""So long a key can be good at most; one without an end is good for ever."""
_SHOWN = 8


class KeyInvalid(ValueError):
    """What describes a key can't be used; `field` says which part."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def create_key(
    *,
    name: str,
    scopes: Collection[str],
    endpoints: Collection[str] | None = None,
    expires_in: timedelta | None = None,
    actor: str,
) -> tuple[ApiKey, str]:
    """A new key and its text, which is kept nowhere. Raises KeyInvalid."""
    _check(name, scopes, endpoints, expires_in)
    text = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        key = ApiKey.objects.create(
            name=name,
            prefix=text[:_SHOWN],
            digest=digest(text),
            scopes=sorted(set(scopes)),
            endpoints=None if endpoints is None else sorted(set(endpoints)),
            expires_at=None if expires_in is None else timezone.now() + expires_in,
            created_by=actor,
        )
        audit.record(
            actor=actor,
            action="key.created",
            details={"name": name, "prefix": key.prefix, "scopes": key.scopes, "endpoints": key.endpoints},
        )
        transaction.on_commit(publish_access)
    return key, text


def revoke_key(key: ApiKey, *, actor: str, reason: str = "") -> bool:
    """End a key; False if it was revoked before."""
    with transaction.atomic():
        changed = ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
        if changed:
            audit.record(
                actor=actor, action="key.revoked", reason=reason, details={"name": key.name, "prefix": key.prefix}
            )
            transaction.on_commit(publish_access)
    return bool(changed)


def _check(name: str, scopes: Collection[str], endpoints: Collection[str] | None, expires_in: timedelta | None) -> None:
    try:
        validate_name(name)
    except ValidationError as error:
        raise KeyInvalid("name", error.messages[0]) from error
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise KeyInvalid(
            "scopes", f"one or more of {', '.join(SCOPES)} were expected, not {', '.join(unknown) or 'none'}"
        )
    for endpoint in endpoints or ():
        try:
            validate_name(endpoint)
        except ValidationError as error:
            raise KeyInvalid("endpoints", f"{endpoint!r} {error.messages[0]}") from error
    if endpoints is not None and not endpoints:
        raise KeyInvalid("endpoints", "at least one was expected, or none at all for every endpoint")
    if expires_in is not None and expires_in <= timedelta(0):
        raise KeyInvalid("expires", "a positive time was expected")
    if expires_in is not None and expires_in > LONGEST:
        raise KeyInvalid("expires", f"at most {LONGEST.days:,} days were expected; without an end it is good for ever")
