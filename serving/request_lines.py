"""A request's id, on every line that is logged on its way and in the answer's header; and a line on
a share of the requests.

The id is the caller's `X-Request-ID` where that is short and plain, and a new one otherwise. WSGI
and no framework: every application that serves here is told of alike.
"""

import random
import re
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import structlog

log = structlog.get_logger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Set a request: the thread's last one is replaced. structlog's own variables take ten times as long
# to set.
_request_id: ContextVar[str] = ContextVar("request_id")


def add_request_id(logger: Any, method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor of structlog: names the request on whose way a line is logged."""
    request_id = _request_id.get("")
    if request_id:
        line.setdefault("request_id", request_id)
    return line


class RequestLines:
    """Wraps an application; `share` of its requests get a line, and all that are answered with 500
    or more."""

    def __init__(self, application: Application, share: float) -> None:
        self._application = application
        self._share = share

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if not request_id or _PLAIN.fullmatch(request_id) is None:
            request_id = f"{random.getrandbits(64):016x}"
        _request_id.set(request_id)
        began = time.perf_counter()
        status = "500"

        def start(line: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            nonlocal status
            status = line
            headers.append(("X-Request-ID", request_id))
            return start_response(line, headers, *more)

        try:
            return self._application(environ, start)
        finally:
            if status >= "5" or (self._share and random.random() < self._share):
                self._tell(environ, int(status[:3]), time.perf_counter() - began)

    def _tell(self, environ: dict[str, Any], status: int, seconds: float) -> None:
        tell = log.warning if status >= 500 else log.info
        tell(
            "request",
            method=environ.get("REQUEST_METHOD"),
            path=environ.get("PATH_INFO"),  # without the query, which may hold what is no log's business
            status=status,
            milliseconds=round(seconds * 1000, 1),
            client=environ.get("REMOTE_ADDR"),
        )
