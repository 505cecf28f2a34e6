"""The data plane behind a front: its routes as rules, in threads of its own."""

from serving.request_lines import RequestLines

from . import routes
from .app import application
from .pools import Pool
from .rules import Find, Plane, Rule

WAITING_EACH = 32
"""Requests that may wait for each thread: some hundredths of a second's work."""


def data_plane(*, threads: int, share: float) -> Find:
    """The rule of a data-plane path, None for any other. `share` of the requests get a line in the log."""
    plane = Plane(RequestLines(application, share), Pool("data", threads, WAITING_EACH * threads))
    rules = {route.template: Rule(plane, route.methods, route.limit, route.seconds) for route in routes.ROUTES}

    def find(path: str) -> Rule | None:
        route = routes.find(path)
        return None if route is None else rules[route.template]

    return find
