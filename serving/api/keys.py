"""Checks the API key of a serving call against the snapshot: no table is read."""

import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Any

from serving import problems, snapshot
from serving.key_uses import USES
from serving.process import Process

PREFIX = "nr_"
"""What the text of each key begins with."""


def presented(environ: Mapping[str, Any]) -> str | None:
    """The key that a request brings, by `Authorization: Bearer` or `X-API-Key`; `environ` as WSGI
    names headers."""
    authorization: str = environ.get("HTTP_AUTHORIZATION", "")
    if authorization:
        scheme, _, credentials = authorization.partition(" ")
        return credentials.strip() if scheme.lower() == "bearer" else None
    key: str | None = environ.get("HTTP_X_API_KEY")
    return key


def presented_by_any_client(environ: Mapping[str, Any]) -> str | None:
    """As `presented`, or by `Authorization: Basic`, as its user or its password: of clients that
    take nothing but an address, and put into it `http://user:password@host`."""
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return basic(credentials) if scheme.lower() == "basic" else presented(environ)


def basic(credentials: str) -> str | None:
    """The key in the credentials of Basic; None where there is none."""
    try:
        user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        return None
    return next((text for text in (password, user) if text.startswith(PREFIX)), None)


def digest(key: str) -> str:
    """What is kept of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def authorize(process: Process, text: str | None, scope: str) -> snapshot.Key:
    """The key of this text. Raises Problem 401 or 403."""
    known = digest(text) if text else ""
    key = process.store.key(known) if text else None
    if key is None or (key.expires_at is not None and key.expires_at <= time.time()):
        raise problems.unauthorized()
    if scope not in key.scopes:
        raise problems.forbidden(scope)
    USES.note(known)
    return key
