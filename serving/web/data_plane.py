"""The data plane behind a front: its routes as rules, in threads of its own.

Requests on endpoints whose models are on other machines have other threads, and more of them: such
a thread mostly waits, and a machine that hangs keeps none from the endpoints that are served here.
"""

from dataclasses import replace

from django.conf import settings

from serving import process
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
WAITING_THREADS = 4
"""Threads for endpoints that wait for other machines, for each of those that compute."""
_ENDPOINT = "{endpoint}"
FILE_THREADS = 4
"""Threads that send model files: a device that takes one slowly keeps none from predict."""


def data_plane(*, threads: int, share: float) -> Find:
    """The rule of a data-plane path and of the probe of life, None for any other. `share` of the
    requests get a line in the log."""
    lines = RequestLines(application, share)
    plane = Plane(lines, Pool("data", threads, WAITING_EACH * threads))
    waiting = Plane(lines, Pool("waiting", WAITING_THREADS * threads, WAITING_EACH * threads))
    files = Plane(lines, Pool("files", FILE_THREADS, WAITING_EACH * FILE_THREADS))
    # A browser asks by OPTIONS before a page of another origin may call.
    asked_before = ("OPTIONS",) if settings.CORS_ORIGINS else ()
    rules = {
        route.template: Rule(
            files if route.sends_files else plane, (*route.methods, *asked_before), route.limit, route.seconds
        )
        for route in routes.ROUTES
    }
    # By template: where the name of the endpoint begins in a path, and the rule where that waits.
    of_endpoints = {
        template: (template.index(_ENDPOINT), replace(rule, answers=waiting))
        for template, rule in rules.items()
        if _ENDPOINT in template
    }

    def find(path: str) -> Rule | None:
        route = routes.find(path)
        if route is None:
            return ALIVE if path == "/healthz" else None
        template = route.template
        if template in of_endpoints:
            begin, rule = of_endpoints[template]
            if process.waits(path[begin:].partition("/")[0]):
                return rule
        return rules[template]

    return find
