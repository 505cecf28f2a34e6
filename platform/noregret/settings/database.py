"""PostgreSQL: one engine everywhere."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .core import ENVIRONMENT


def parse(url: str) -> dict[str, Any]:
    """Django's settings for a `postgresql://` address; further query parameters go to libpq."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError(f"DATABASE_URL has the scheme {parts.scheme!r}: postgresql:// was expected")
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
# A read of the control plane that runs longer is ended (noregret.rest.reads).
READ_SECONDS = ENVIRONMENT.read_seconds
# Nothing on the control plane may hang: a lost server shows within seconds, and a runaway statement is ended.
DATABASES["default"]["OPTIONS"] |= {
    "connect_timeout": "5",
    "application_name": f"noregret-{ENVIRONMENT.role or 'command'}",
}
