"""The WSGI entry that Granian runs."""

import os

import structlog
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noregret.settings")
application = get_wsgi_application()


def _begin_serving() -> None:
    """Read the snapshots and load their models before the first request comes: it would wait for them."""
    from serving.process import process

    try:
        process()
    except Exception as error:  # requests try again, and readiness says what is wrong
        structlog.get_logger(__name__).error("not serving yet", error=repr(error))


_begin_serving()
