"""The WSGI entry that Granian runs."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
_django = get_wsgi_application()

import structlog  # noqa: E402 - configured by the line above
from django.conf import settings  # noqa: E402

from noregret.operations import counts_alone  # noqa: E402
from serving.request_lines import RequestLines  # noqa: E402

application = RequestLines(_django, settings.ACCESS_LINES)
if counts_alone():
    structlog.get_logger(__name__).error(
        "several web processes, and PROMETHEUS_MULTIPROC_DIR is not set: /metrics is refused"
    )
