"""The WSGI entry that Granian runs."""

import os

import structlog
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
_django = get_wsgi_application()

from django.conf import settings  # noqa: E402 - configured by the line above

from noregret.operations import counts_alone  # noqa: E402
from serving.request_lines import RequestLines  # noqa: E402

application = RequestLines(_django, settings.ACCESS_LINES)
log = structlog.get_logger(__name__)


def _begin_serving() -> None:
    """Read the snapshots and load their models before the first request comes: it would wait for them."""
    from serving.process import process

    try:
        process()
    except Exception as error:  # requests try again, and readiness says what is wrong
        log.error("not serving yet", error=repr(error))


if counts_alone():
    log.error("several web processes, and PROMETHEUS_MULTIPROC_DIR is not set: /metrics is refused")
_begin_serving()
