"""PostgreSQL: one engine everywhere."""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from .core import ENVIRONMENT


def parse(url: str) -> dict[str, Any]:
    """Django's settings for a `postgresql://` address, read as libpq reads it: several hosts, sockets, `options` and all."""
    scheme = url.partition("://")[0]
    if scheme not in {"postgresql", "postgres"}:
        raise ValueError(f"DATABASE_URL has the scheme {scheme[:20]!r}: postgresql:// was expected")
    try:
        options: dict[str, Any] = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:  # its message may show a piece of the password
        raise ValueError("DATABASE_URL can't be read: are special characters of the password escaped?") from None
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": options.pop("dbname", "") or "noregret",
        "USER": options.pop("user", ""),
        "PASSWORD": options.pop("password", ""),
        "HOST": options.pop("host", ""),
        "PORT": str(options.pop("port", "")),
        "OPTIONS": options,
    }


DATABASES = {
    "default": parse(ENVIRONMENT.database_url)
    | {
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
        # A pooler may lend a connection for one transaction only: nothing may outlive it. Cursors of the server are opened by name,
        # inside a transaction, where they are meant.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
}
# Nothing on the control plane may hang: a lost server shows within seconds, and a runaway statement is ended.
DATABASES["default"]["OPTIONS"] |= {
    "connect_timeout": "5",
    "application_name": f"noregret-{ENVIRONMENT.role or 'command'}",
}

# A web process: one connection for each request thread, and these for feedback beside them.
REWARD_CONNECTIONS = ENVIRONMENT.database_connections - ENVIRONMENT.blocking_threads
