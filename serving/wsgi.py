"""The data plane alone: `front` for our own server (`python -m serving.web`), `application` for any other of WSGI's.

Settings come from the environment as everywhere; no address of the control plane is known here.
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
django.setup()

from django.conf import settings  # noqa: E402 - configured by the line above

from serving.request_lines import RequestLines  # noqa: E402
from serving.starting import begin_serving  # noqa: E402
from serving.web import app  # noqa: E402
from serving.web.data_plane import data_plane  # noqa: E402
from serving.web.front import Front  # noqa: E402

application = RequestLines(app.application, settings.ACCESS_LINES)
front = Front(
    data_plane(threads=settings.ENVIRONMENT.blocking_threads, share=settings.ACCESS_LINES),
    folder=settings.UPLOAD_DIR,
    disk_limit=settings.UPLOAD_DISK_LIMIT,
    share=settings.ACCESS_LINES,
)
begin_serving()
