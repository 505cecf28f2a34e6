"""GET /readyz of a process that is the data plane alone: asked in a thread beside those that answer
requests, whatever Host is named."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from serving import readiness
from serving.request_lines import RequestLines

from .pools import Pool
from .route import BODY_SECONDS
from .rules import Plane, Rule

PATH = "/readyz"
_THREADS = 1
_WAITING = 64
_STATUS = {200: "200 OK", 503: "503 Service Unavailable"}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """`?strict=1`: 503 for anything that is wrong."""
    strict = parse_qs(environ.get("QUERY_STRING", "")).get("strict") == ["1"]
    status, body = readiness.answer(readiness.OF_DATA_PLANE, strict=strict)
    start_response(_STATUS[status], [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def rule(*, share: float) -> Rule:
    """`share` of the requests get a line in the log."""
    plane = Plane(RequestLines(application, share), Pool("probes", _THREADS, _WAITING))
    return Rule(plane, ("GET", "HEAD"), 0, BODY_SECONDS)
