"""Every call of the HTTP API, as it is declared where it is answered: views, probes, and the data
plane's routes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.views import APIView

from serving.api.calls import Call, call_of
from serving.web import routes

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Address:
    """A path with its parameters in braces, a method, and what is declared there. `by_view`: REST
    framework answers it."""

    path: str
    method: str
    tag: str
    call: Call
    by_view: bool


@cache
def addresses() -> tuple[Address, ...]:
    return (*_of_control_plane(get_resolver().url_patterns), *_of_data_plane())


def _of_control_plane(patterns: list[URLPattern | URLResolver], before: str = "/") -> Iterator[Address]:
    for pattern in patterns:
        path = before + re.sub(r"<\w+:(\w+)>", r"{\1}", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from _of_control_plane(pattern.url_patterns, path)
            continue
        view = getattr(pattern.callback, "cls", None)
        if isinstance(view, type) and issubclass(view, APIView):
            for method in METHODS:
                call = call_of(getattr(view, method, None))
                if call is not None:
                    yield Address(path, method, "managing", call, by_view=True)
        elif (call := call_of(pattern.callback)) is not None:
            yield Address(path, "get", "operations", call, by_view=False)


def _of_data_plane() -> Iterator[Address]:
    for route in routes.TABLE.routes:
        for method in METHODS:
            call = call_of(getattr(route.resource, f"on_{method}", None))
            if call is not None:
                yield Address(route.template, method, "serving", call, by_view=False)
