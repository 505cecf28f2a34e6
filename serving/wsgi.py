"""The data plane alone: `front` for our own server (`python -m serving.web`), `application` for any
other of WSGI's.

Settings come from the environment as everywhere; no address of the control plane is known here.
"""

import os

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
if not apps.ready:
    django.setup()

from django.conf import settings

from serving.request_lines import RequestLines
from serving.starting import begin_serving, end_serving
from serving.web import app, routes
from serving.web.data_plane import data_plane
from serving.web.front import Front

application = RequestLines(app.application, settings.ACCESS_LINES)
front = Front(
    data_plane(threads=settings.ENVIRONMENT.blocking_threads, share=settings.ACCESS_LINES),
    folder=settings.UPLOAD_DIR,
    disk_limit=settings.UPLOAD_DISK_LIMIT,
    share=settings.ACCESS_LINES,
    tell=routes.tell,
    heads=app.heads(),
    at_end=end_serving,
)
begin_serving()
