"""A Django view that answers fixed JSON, and no model: what Django does at most under a compiled
server."""

import os

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[], SECRET_KEY=os.urandom(32).hex())
django.setup()

BODY = b'{"status": "ok"}'


def noop(request):
    return HttpResponse(BODY, content_type="application/json", headers={"Content-Length": len(BODY)})


urlpatterns = [path("noop", noop)]
application = WSGIHandler()
