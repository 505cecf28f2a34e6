"""The data plane behind a front: its routes as rules, in threads of its own."""

from django.conf import settings

from serving.request_lines import RequestLines

from . import routes
from .app import application
from .pools import Pool
from .route import BODY_SECONDS
from .rules import Find, Fixed, Plane, Rule

ALIVE = Rule(Fixed("application/json", b'{"status":"ok"}'), ("GET", "HEAD"), 0, BODY_SECONDS)
"""GET /healthz: 200 while the process lives. It asks no server, needs no thread, and answers
whatever Host is named."""
WAITING_EACH = 32
"""Requests that may wait for each thread: some hundredths of a second's work."""


def data_plane(*, threads: int, share: float) -> Find:
    """The rule of a data-plane path and of the probe of life, None for any other. `share` of the
    requests get a line in the log."""
    plane = Plane(RequestLines(application, share), Pool("data", threads, WAITING_EACH * threads))
    # A browser asks by OPTIONS before a page of another origin may call.
    asked_before = ("OPTIONS",) if settings.CORS_ORIGINS else ()
    rules = {
        route.template: Rule(plane, (*route.methods, *asked_before), route.limit, route.seconds)
        for route in routes.ROUTES
    }

    def find(path: str) -> Rule | None:
        route = routes.find(path)
        if route is None:
            return ALIVE if path == "/healthz" else None
        return rules[route.template]

    return find
