"""The data plane alone: `front` for our own server (`python -m serving.web`), `application` for any
other of WSGI's.

Settings come from the environment as everywhere; no address of the control plane is known here.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
if not apps.ready:
    django.setup()

from django.conf import settings

from serving.request_lines import RequestLines
from serving.starting import begin_serving, end_serving
from serving.web import app, ready, routes
from serving.web.data_plane import data_plane
from serving.web.front import Front
from serving.web.rules import Rule


def _by_path(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    answers = ready.application if environ["PATH_INFO"] == ready.PATH else app.application
    return answers(environ, start_response)


application = RequestLines(_by_path, settings.ACCESS_LINES)

_find_data = data_plane(threads=settings.ENVIRONMENT.blocking_threads, share=settings.ACCESS_LINES)
_ready = ready.rule(share=settings.ACCESS_LINES)


def _find(path: str) -> Rule | None:
    return _ready if path == ready.PATH else _find_data(path)


front = Front(
    _find,
    folder=settings.UPLOAD_DIR,
    disk_limit=settings.UPLOAD_DISK_LIMIT,
    share=settings.ACCESS_LINES,
    tell=routes.tell,
    heads=app.heads(),
    at_end=end_serving,
)
begin_serving()
