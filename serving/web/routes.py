"""Every address of the data plane, in one table: what answers there, by which methods, and what body it takes.

Who stands in front (a dispatcher, a shell that reads bodies) asks this table; OpenAPI's document and the tests are held against it.
"""

import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from . import native

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One address. `template` is Falcon's: a name in braces stands for one part of the path."""

    template: str
    resource: Any  # a Falcon resource: a responder a method, by its name
    methods: tuple[str, ...]
    limit: int  # bytes of a body, at most
    seconds: float  # within which a body must be whole


BODY_SECONDS = 10.0
"""A body that a client needs longer for is refused."""

_limit: int = settings.SERVING_BODY_LIMIT

ROUTES = (
    Route("/api/v1/endpoints/{endpoint}/predict", native.Predict(), ("POST",), _limit, BODY_SECONDS),
    Route("/api/v1/endpoints/{endpoint}/decide", native.Decide(), ("POST",), _limit, BODY_SECONDS),
    Route("/api/v1/feedback", native.Feedback(), ("POST",), _limit, BODY_SECONDS),
    Route("/api/v1/ping", native.Ping(), ("GET", "HEAD"), 0, BODY_SECONDS),
)

BY_TEMPLATE = {route.template: route for route in ROUTES}


def _pattern(template: str) -> str:
    return _FIELD.sub(r"[^/\\x00]+", template)


# One expression for all: which of them matched is the name of its group.
_PATHS = re.compile("|".join(f"(?P<r{i}>{_pattern(route.template)})" for i, route in enumerate(ROUTES)))


def find(path: str) -> Route | None:
    """The route of a path (WSGI's PATH_INFO), or None for one that is not the data plane's."""
    match = _PATHS.fullmatch(path)
    return None if match is None or match.lastgroup is None else ROUTES[int(match.lastgroup[1:])]
