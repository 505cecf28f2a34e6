"""What those who run a process with the data plane alone ask: /readyz and /metrics, as `noregret`
answers them where both planes are in one process.

It looks at no table of the control plane: whether migrations are missing is the control plane's to
tell. Probes are answered whatever Host they name, for they come to an address of a pod or of a
node.
"""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import msgspec
from django.conf import settings

from serving import exposition, problems, readiness

from .process import process
from .readiness import Check, Found
from .request_lines import RequestLines
from .web.pools import Pool
from .web.route import BODY_SECONDS
from .web.rules import Find, Plane, Rule

PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_JSON = "application/json"
_WAITING = 64


def _database() -> Found:
    process().rewards.probe()
    return {"ok": True}


def _learner() -> Found:
    silent = process().store.learner.silent_seconds
    return {"ok": silent <= settings.LEARNER_DEAD_SECONDS, "seconds_since_round": round(silent, 1)}


CHECKS = {"database": Check(_database), "learner": Check(_learner)} | readiness.OF_THE_STORE


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI's application for PATHS alone."""
    status, content_type, body = _ANSWERS[environ["PATH_INFO"]](environ)
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    start_response(f"{status} {'OK' if status == 200 else 'Service Unavailable'}", headers)
    return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def probes(*, share: float) -> Find:
    """The rule of /readyz and /metrics, None for any other path. They have a thread of their own: a
    probe that waits for a server keeps no request waiting."""
    rule = Rule(Plane(RequestLines(application, share), Pool("probes", 1, _WAITING)), ("GET", "HEAD"), 0, BODY_SECONDS)
    return lambda path: rule if path in PATHS else None


def _lives(environ: dict[str, Any]) -> tuple[int, str, bytes]:
    return 200, _JSON, b'{"status":"ok"}'


def _ready(environ: dict[str, Any]) -> tuple[int, str, bytes]:
    strict = parse_qs(environ.get("QUERY_STRING", "")).get("strict") == ["1"]
    status, document = readiness.told(CHECKS, strict=strict)
    return status, _JSON, msgspec.json.encode(document)


def _metrics(environ: dict[str, Any]) -> tuple[int, str, bytes]:
    if exposition.counts_alone():
        problem = problems.unavailable(exposition.ALONE, retry_after=60)
        return problem.status, problems.CONTENT_TYPE, problem.body()
    return 200, exposition.CONTENT_TYPE_LATEST, exposition.text()


_ANSWERS = {"/healthz": _lives, "/readyz": _ready, "/metrics": _metrics}
