"""The ceiling: a Django view that answers fixed JSON, behind the middleware that the service's own
views have.

It runs in a process of its own behind the service's own web server, so that what else the service
does changes nothing of the measure.
"""

import os
import tempfile
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
django.setup()

from django.conf import settings  # noqa: E402 - configured by the lines above
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from serving.request_lines import RequestLines  # noqa: E402
from serving.web.front import Front  # noqa: E402
from serving.web.pools import Pool  # noqa: E402
from serving.web.rules import Plane, Rule  # noqa: E402

_BODY = b'{"status": "ok"}'
_WAITING_EACH = 32


def noop(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_BODY, content_type="application/json")


urlpatterns = [path("noop", noop)]
settings.ROOT_URLCONF = __name__
_threads = settings.ENVIRONMENT.blocking_threads
_plane = Plane(RequestLines(WSGIHandler(), settings.ACCESS_LINES), Pool("noop", _threads, _WAITING_EACH * _threads))
_rule = Rule(_plane, ("GET",), 0, 10.0)
front = Front(lambda path: _rule, folder=Path(tempfile.gettempdir()), disk_limit=0, share=0.0)
