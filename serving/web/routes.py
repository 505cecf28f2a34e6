"""Every address of the data plane, in one table, by the protocols that there are. Adding one: a
file, and a line here (docs/adding-a-protocol.md).

Who stands in front (a dispatcher, a shell that reads bodies) asks this table; OpenAPI's document
and the tests are held against it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from django.conf import settings

from serving.problems import Problem

from . import edge, mlflow, native, ofrep, open_inference
from .refusals import Refusal, Tell, tell_problem
from .route import AS_SET, Area, Route

_FIELD = re.compile(r"\{(\w+)\}")


class WebProtocol(Protocol):
    """What a protocol's module holds. What its resources declare (serving.api.calls) stands in the
    OpenAPI document.
    """

    @property
    def ROUTES(self) -> Sequence[Route]: ...  # noqa: N802 - a constant of a module

    @property
    def AREA(self) -> Area | None: ...  # noqa: N802 - a constant of a module


PROTOCOLS: tuple[WebProtocol, ...] = (native, open_inference, mlflow, ofrep, edge)


class Table:
    """The addresses of some protocols."""

    def __init__(self, protocols: Sequence[WebProtocol]) -> None:
        self.protocols = tuple(protocols)
        self.routes = tuple(_limited(route) for protocol in protocols for route in protocol.ROUTES)
        self._areas = tuple(protocol.AREA for protocol in protocols if protocol.AREA is not None)
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

    def holds(self, path: str) -> bool:
        """Does the data plane answer at this path, if only with a 404 in a protocol's words?"""
        return self.find(path) is not None or any(area.holds(path) for area in self._areas)

    def tell(self, environ: Mapping[str, Any], problem: Problem) -> Refusal:
        """The refusal of a request, as the protocol tells it whose address was asked."""
        return self._tell_at(environ.get("PATH_INFO", ""))(environ, problem)

    def _tell_at(self, path: str) -> Tell:
        route = self.find(path)
        if route is not None:
            return route.tell
        return next((area.tell for area in self._areas if area.holds(path)), tell_problem)


def _limited(route: Route) -> Route:
    return replace(route, limit=settings.SERVING_BODY_LIMIT) if route.limit == AS_SET else route


def _pattern(template: str) -> str:
    return _FIELD.sub(r"[^/\\x00]+", template)


TABLE = Table(PROTOCOLS)
ROUTES = TABLE.routes


def find(path: str) -> Route | None:
    """The route of a path (WSGI's PATH_INFO), or None for one that is not the data plane's."""
    return TABLE.find(path)


def holds(path: str) -> bool:
    """Is a path the data plane's?"""
    return TABLE.holds(path)


def tell(environ: Mapping[str, Any], problem: Problem) -> Refusal:
    """A refusal in the words of the protocol whose address was asked; else a problem document."""
    return TABLE.tell(environ, problem)
