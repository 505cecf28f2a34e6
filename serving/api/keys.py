"""Checks the API key of a serving call against the snapshot: no table is read."""

import hashlib
import time

from django.http import HttpRequest

from serving import problems, snapshot
from serving.process import Process


def presented(request: HttpRequest) -> str | None:
    """The key that a request brings, by `Authorization: Bearer` or `X-API-Key`."""
    authorization: str = request.META.get("HTTP_AUTHORIZATION", "")
    if authorization:
        scheme, _, credentials = authorization.partition(" ")
        return credentials.strip() if scheme.lower() == "bearer" else None
    key: str | None = request.META.get("HTTP_X_API_KEY")
    return key


def digest(key: str) -> str:
    """What is kept of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def authorize(process: Process, request: HttpRequest, scope: str) -> snapshot.Key:
    """The key of the request. Raises Problem 401 or 403."""
    text = presented(request)
    key = process.store.key(digest(text)) if text else None
    if key is None or (key.expires_at is not None and key.expires_at <= time.time()):
        raise problems.unauthorized()
    if scope not in key.scopes:
        raise problems.forbidden(scope)
    return key
