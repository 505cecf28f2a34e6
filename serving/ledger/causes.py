"""Why PostgreSQL did not take something, in one word for a metric and one line for the log."""

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from .group_commit import NotTold

_BY_STATE = {
    "53100": "disk_full",
    "57014": "timeout",  # the statement's, or a lock's it waited for
    "55P03": "timeout",
    "25006": "read_only",
    "57P01": "connection",  # the server is being stopped, or is starting
    "57P02": "connection",
    "57P03": "connection",
    "53300": "connection",  # too many of them
}


def reason(error: BaseException | None) -> str:
    """`not_told` in time by who writes for several, `no_connection` in time, `connection` lost or
    refused, `timeout`, `disk_full`, `read_only`, `other`."""
    if isinstance(error, NotTold):
        return "not_told"
    if isinstance(error, PoolTimeout | TooManyRequests):
        return "no_connection"
    if not isinstance(error, psycopg.Error):
        return "other"
    state = error.sqlstate or ""
    if state in _BY_STATE:
        return _BY_STATE[state]
    lost = state.startswith("08") or (not state and isinstance(error, psycopg.OperationalError))
    return "connection" if lost else "other"


def line(error: BaseException | None) -> str:
    """What was said, without the details: these hold what was to be written."""
    said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return said or next(iter(str(error).strip().splitlines()), type(error).__name__)
