"""A web process with both planes: `front` for our own server (`python -m noregret.web`),
`application` for any other of WSGI's.

Under another server the control plane has a bulkhead too: of the server's threads it gets half as
many as the data plane has, and a further call is told to come again. Bodies are then read as that
server reads them: let a proxy that buffers stand in front.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import django
import structlog
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
if not apps.ready:
    django.setup()

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

from noregret.control_plane import control_plane
from serving import exposition, problems
from serving.request_lines import RequestLines
from serving.starting import begin_serving, end_serving
from serving.web import app, routes
from serving.web.data_plane import data_plane
from serving.web.front import Front
from serving.web.rules import Rule

log = structlog.get_logger(__name__)

_django = WSGIHandler()
_admitted = threading.BoundedSemaphore(settings.CONTROL_THREADS)
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


def _by_plane(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if routes.holds(path):
        return app.application(environ, start_response)
    if path in _PROBES:
        return _django(environ, start_response)
    if not _admitted.acquire(blocking=False):
        problem = problems.busy()
        body = problem.body()
        headers = [("Content-Type", problems.CONTENT_TYPE), ("Content-Length", str(len(body)))]
        start_response("503 Service Unavailable", [*headers, *problem.headers.items()])
        return [body]
    return _Admitted(_django, environ, start_response)


class _Admitted:
    """The answer of an application that was let in; whoever waits is let in when it was sent, or is
    given up."""

    def __init__(self, application: Any, environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
        self._is_over = False
        try:
            self._parts = application(environ, start_response)
        except BaseException:
            self._leave()
            raise

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            self._leave()

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            _admitted.release()


application = RequestLines(_by_plane, settings.ACCESS_LINES)

_find_data = data_plane(threads=settings.ENVIRONMENT.blocking_threads, share=settings.ACCESS_LINES)
_find_control = control_plane(_django, share=settings.ACCESS_LINES)


def _find(path: str) -> Rule | None:
    return _find_data(path) or _find_control(path)


front = Front(
    _find,
    folder=settings.UPLOAD_DIR,
    disk_limit=settings.UPLOAD_DISK_LIMIT,
    share=settings.ACCESS_LINES,
    tell=routes.tell,
    heads=app.heads(),
    at_end=end_serving,
)

if exposition.counts_alone():
    log.error(f"{exposition.ALONE}; /metrics is refused")
begin_serving()
