"""The data plane alone: `front` for our own server (`python -m serving.web`), `application` for any
other of WSGI's.

Settings come from the environment as everywhere; no address of the control plane is known here but
the probes' own: /healthz, /readyz and /metrics.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
if not apps.ready:
    django.setup()

import structlog
from django.conf import settings

from serving import exposition, probes
from serving.request_lines import RequestLines
from serving.starting import begin_serving, end_serving
from serving.web import app, routes
from serving.web.data_plane import data_plane
from serving.web.front import Front
from serving.web.rules import Rule

log = structlog.get_logger(__name__)


def _answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    chosen = probes.application if environ["PATH_INFO"] in probes.PATHS else app.application
    return chosen(environ, start_response)


application = RequestLines(_answer, settings.ACCESS_LINES)

_find_data = data_plane(threads=settings.ENVIRONMENT.blocking_threads, share=settings.ACCESS_LINES)
_find_probe = probes.probes(share=settings.ACCESS_LINES)


def _find(path: str) -> Rule | None:
    return _find_data(path) or _find_probe(path)


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
