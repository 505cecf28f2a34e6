"""The ceiling: a Django project of one view that answers fixed JSON, with no middleware and no
database.

It runs in a process of its own behind the service's own web server, so that what the service puts
in front of its control plane changes nothing of the measure.
"""

import os
import tempfile
from pathlib import Path

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

from noregret.env import Environment

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[],
    # Nothing is signed with it.
    SECRET_KEY=os.urandom(32).hex(),
)
django.setup()

from serving.web.front import Front  # noqa: E402 - configured by the lines above
from serving.web.pools import Pool  # noqa: E402
from serving.web.rules import Plane, Rule  # noqa: E402

_BODY = b'{"status": "ok"}'
_WAITING_EACH = 32


def noop(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_BODY, content_type="application/json", headers={"Content-Length": len(_BODY)})


urlpatterns = [path("noop", noop)]
_threads = Environment.read().blocking_threads
_rule = Rule(Plane(WSGIHandler(), Pool("noop", _threads, _WAITING_EACH * _threads)), ("GET",), 0, 10.0)
front = Front(lambda path: _rule, folder=Path(tempfile.gettempdir()), disk_limit=0, share=0.0)
