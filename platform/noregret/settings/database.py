"""PostgreSQL: one engine everywhere."""

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from noregret.env import BadEnvironment
from noregret.variables import DATABASE_URL, REPLICA_URL

from .core import ENVIRONMENT

_EXPECTED = "postgresql://user:password@host:5432/name was expected, with / ? # @ : % in a password written as %2F %3F %23 %40 %3A %25"


def parse(url: str, name: str = DATABASE_URL) -> dict[str, Any]:
    """Django's settings for a `postgresql://` address, read as libpq reads it: several hosts,
    sockets, `options` and all.

    Raises BadEnvironment, which shows nothing of it: a password may be in it.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in {"postgresql", "postgres"}:
        raise BadEnvironment(f"{name} names no PostgreSQL: {_EXPECTED}")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if authority and "@" not in authority and "@" in rest:
        raise BadEnvironment(f"{name} holds a / ? or # that ends the host too early: {_EXPECTED}")
    try:
        options: dict[str, Any] = dict(conninfo_to_dict(url))
        for port in str(options.get("port", "")).split(","):
            int(port or 0)
    except (psycopg.ProgrammingError, ValueError):  # their messages may show a piece of the password
        raise BadEnvironment(f"{name} can't be read: {_EXPECTED}") from None
    return {
        "ENGINE": "noregret.database",
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
        # A pooler may lend a connection for one transaction only: nothing may outlive it. Cursors
        # of the server are opened by name, inside a transaction, where they are meant.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
}
# A statement of the control plane that runs longer is ended (noregret.rest.reads).
READ_SECONDS = ENVIRONMENT.read_seconds
# Nothing on the control plane may hang: a lost server shows within seconds, and a runaway statement
# is ended.
DATABASES["default"]["OPTIONS"] |= {
    "connect_timeout": "5",
    "application_name": f"noregret-{ENVIRONMENT.role or 'command'}",
}
# A machine that is gone answers no more and refuses nothing: the kernel asks after half a minute of
# silence whether it is there.
DATABASES["default"]["OPTIONS"] = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
} | DATABASES["default"]["OPTIONS"]

if ENVIRONMENT.replica_url:
    # Figures that people look at are read there (noregret.rest.replica). What the primary's address
    # says for itself, as `target_session_attrs`, is not said of it.
    _named = parse(ENVIRONMENT.replica_url, REPLICA_URL)
    _shared = ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "application_name")
    _options = {name: DATABASES["default"]["OPTIONS"][name] for name in _shared}
    _named["OPTIONS"] = _options | {"connect_timeout": "2"} | _named["OPTIONS"]
    DATABASES["replica"] = DATABASES["default"] | _named
DATABASE_ROUTERS = ["noregret.rest.replica.Router"]
REPLICA_LAG_SECONDS = ENVIRONMENT.replica_lag_seconds

# A web process: one connection for each thread of the control plane, one for probes, and these for
# feedback beside them; half the data plane's threads at most, so that a server that hangs leaves
# the other half to predict.
CONTROL_THREADS = max(1, ENVIRONMENT.blocking_threads // 2)
REWARD_CONNECTIONS = min(
    ENVIRONMENT.database_connections - CONTROL_THREADS - 1, max(1, ENVIRONMENT.blocking_threads // 2)
)
