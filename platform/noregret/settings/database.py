"""PostgreSQL: one engine everywhere."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from noregret.env import DATABASE_URL, BadEnvironment

from .core import ENVIRONMENT

_EXPECTED = "postgresql://user:password@host:5432/name was expected, with / ? # @ : % in a password written as %2F %3F %23 %40 %3A %25"


def parse(url: str) -> dict[str, Any]:
    """Django's settings for a `postgresql://` address; further query parameters go to libpq.

    Raises BadEnvironment, which shows nothing of it: a password may be in it.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise BadEnvironment(f"{DATABASE_URL} can't be read: {_EXPECTED}") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise BadEnvironment(f"{DATABASE_URL} names no PostgreSQL: {_EXPECTED}")
    if parts.netloc and "@" not in parts.netloc and "@" in url:
        raise BadEnvironment(f"{DATABASE_URL} holds a / ? or # that ends the host too early: {_EXPECTED}")
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "noregret",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", "") or parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": options,
    }


DATABASES = {
    "default": parse(ENVIRONMENT.database_url)
    | {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True, "ATOMIC_REQUESTS": False}
}
# Nothing on the control plane may hang: a lost server shows within seconds, and a runaway statement is ended.
DATABASES["default"]["OPTIONS"] |= {
    "connect_timeout": "5",
    "application_name": f"noregret-{ENVIRONMENT.role or 'command'}",
}
