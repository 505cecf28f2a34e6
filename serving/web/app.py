"""The data plane as a WSGI application: Falcon, with what every answer has around it."""

from collections.abc import Callable, Iterable
from typing import Any

import falcon
from django.conf import settings

from . import errors, routes
from .outside import Outside


def _falcon() -> "falcon.App[falcon.Request, falcon.Response]":
    app = falcon.App()
    for route in routes.ROUTES:
        app.add_route(route.template, route.resource)
    errors.add_to(app)
    return app


_inside = Outside(
    _falcon(),
    hosts=lambda: settings.ALLOWED_HOSTS,
    https=settings.ENVIRONMENT.https,
)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The data plane. Every path that is not in serving.web.routes is a 404 here."""
    return _inside(environ, start_response)
