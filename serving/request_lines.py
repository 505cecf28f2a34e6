"""A request's id, on every line that is logged on its way and in the answer's header; and a line on a share of the requests.

The id is the caller's `X-Request-ID` where that is short and plain, and a new one otherwise. WSGI and no framework: every application
that serves here is told of alike.
"""

import random
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

log = structlog.get_logger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestLines:
    """Wraps an application; `share` of its requests get a line, and all that are answered with 500 or more."""

    def __init__(self, application: Application, share: float) -> None:
        self._application = application
        self._share = share

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _PLAIN.fullmatch(given) else f"{random.getrandbits(64):016x}"
        bind_contextvars(request_id=request_id)  # in the place of the thread's last one
        began = time.perf_counter()
        status = 500

        def start(line: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, [*headers, ("X-Request-ID", request_id)], *more)

        try:
            return self._application(environ, start)
        finally:
            if status >= 500 or random.random() < self._share:
                tell = log.warning if status >= 500 else log.info
                tell(
                    "request",
                    method=environ.get("REQUEST_METHOD"),
                    path=environ.get("PATH_INFO"),  # without the query, which may hold what is no log's business
                    status=status,
                    milliseconds=round((time.perf_counter() - began) * 1000, 1),
                    client=environ.get("REMOTE_ADDR"),
                )
