"""The ceiling: a Django project of one view that answers fixed JSON, with no middleware and no database.

It runs in a process of its own, with the service's server and arguments, so that what the service
puts in front of Django changes nothing of the measure.
"""

import os

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[],
    # Nothing is signed with it.
    SECRET_KEY=os.urandom(32).hex(),
)
django.setup()


_BODY = b'{"status": "ok"}'


def noop(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_BODY, content_type="application/json", headers={"Content-Length": len(_BODY)})


urlpatterns = [path("noop", noop)]
application = WSGIHandler()
