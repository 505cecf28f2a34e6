"""The WSGI entry that Granian runs: the data plane's addresses go to Falcon, all others to Django."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
_control_plane = get_wsgi_application()

from django.conf import settings  # noqa: E402 - configured by the line above

from noregret.operations import counts_alone  # noqa: E402
from serving.request_lines import RequestLines  # noqa: E402
from serving.web import routes  # noqa: E402
from serving.web.app import application as _data_plane  # noqa: E402

log = structlog.get_logger(__name__)


def _by_plane(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    plane = _control_plane if routes.find(environ["PATH_INFO"]) is None else _data_plane
    return plane(environ, start_response)


application = RequestLines(_by_plane, settings.ACCESS_LINES)


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
