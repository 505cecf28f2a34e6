"""Checks the API key of a serving call against the snapshot: no table is read."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from serving import problems, snapshot
from serving.process import Process


def presented(environ: Mapping[str, Any]) -> str | None:
    """The key that a request brings, by `Authorization: Bearer` or `X-API-Key`; `environ` as WSGI
    names headers."""
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    if authorization:
        scheme, _, credentials = authorization.partition(" ")
        return credentials.strip() if scheme.lower() == "bearer" else None
    key: str | None = environ.get("HTTP_X_API_KEY")
    return key


def digest(key: str) -> str:
    """What is kept of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def authorize(process: Process, text: str | None, scope: str) -> snapshot.Key:
    """The key of this text. Raises Problem 401 or 403."""
    key = process.store.key(digest(text)) if text else None
    if key is None or (key.expires_at is not None and key.expires_at <= time.time()):
        raise problems.unauthorized()
    if scope not in key.scopes:
        raise problems.forbidden(scope)
    return key
