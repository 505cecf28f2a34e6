"""The data plane as a WSGI application: Falcon, with what every answer has around it."""

from collections.abc import Callable, Iterable
from typing import Any

import falcon
from django.conf import settings

from . import errors, routes
from .answer_heads import AnswerHeads
from .outside import Outside

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def make(table: routes.Table) -> Application:
    """The application of a table of routes. Every path that is not in the table is a 404."""
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
    for route in table.routes:
        app.add_route(route.template, route.resource)
    errors.add_to(app, table)
    return Outside(app, hosts=lambda: settings.ALLOWED_HOSTS, heads=heads(), tell=table.tell)


def heads() -> AnswerHeads:
    """The headers of every answer of this process, as the settings have them."""
    return AnswerHeads(https=settings.ENVIRONMENT.https, origins=lambda: settings.CORS_ORIGINS)


application = make(routes.TABLE)
"""The data plane."""
