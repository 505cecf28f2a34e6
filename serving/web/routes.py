"""Every address of the data plane, in one table, by the protocols that there are. Adding one: a
file, and a line here (docs/adding-a-protocol.md).

Who stands in front (a dispatcher, a shell that reads bodies) asks this table; OpenAPI's document
and the tests are held against it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from django.conf import settings

from . import native
from .route import AS_SET, Route

_FIELD = re.compile(r"\{(\w+)\}")


class WebProtocol(Protocol):
    """What a protocol's module holds. What its resources declare (serving.api.calls) stands in the
    OpenAPI document.
    """

    @property
    def ROUTES(self) -> Sequence[Route]: ...  # noqa: N802 - a constant of a module


PROTOCOLS: tuple[WebProtocol, ...] = (native,)


class Table:
    """The addresses of some protocols."""

    def __init__(self, protocols: Sequence[WebProtocol]) -> None:
        self.protocols = tuple(protocols)
        self.routes = tuple(_limited(route) for protocol in protocols for route in protocol.ROUTES)
        self.by_template = {route.template: route for route in self.routes}
        if len(self.by_template) < len(self.routes):
            raise ValueError("two protocols have one address")
        # One expression for all: which of them matched is the name of its group.
        self._paths = re.compile(
            "|".join(f"(?P<r{i}>{_pattern(route.template)})" for i, route in enumerate(self.routes))
        )

    def find(self, path: str) -> Route | None:
        match = self._paths.fullmatch(path)
        return None if match is None or match.lastgroup is None else self.routes[int(match.lastgroup[1:])]


def _limited(route: Route) -> Route:
    return replace(route, limit=settings.SERVING_BODY_LIMIT) if route.limit == AS_SET else route


def _pattern(template: str) -> str:
    return _FIELD.sub(r"[^/\\x00]+", template)


TABLE = Table(PROTOCOLS)
ROUTES = TABLE.routes


def find(path: str) -> Route | None:
    """The route of a path (WSGI's PATH_INFO), or None for one that is not the data plane's."""
    return TABLE.find(path)
