"""What each address of the control plane takes, and the threads that answer it.

The rules are read from Django's own addresses, so that none is forgotten: an address that is not
among them is nobody's, and a request for it gets no thread.
"""

import re
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from noregret.rest.parsers import ArtifactParser
from serving.request_lines import RequestLines
from serving.web.pools import Pool
from serving.web.route import BODY_SECONDS
from serving.web.rules import Find, Plane, Rule

UPLOAD_SECONDS = 900.0
"""An artefact of 100 MiB comes within this over a megabit a second."""
LOGIN_BYTES = 16 * 1024
WAITING_EACH = 4
"""Calls that may wait for each thread of the control plane."""
PROBE_THREADS = 1
"""Beside those of the control plane: a probe that waits for a server keeps no page from being
shown, nor a page a probe."""
FILE_THREADS = 1
_WAITING = 64

_SAFE = ("GET", "HEAD")
_FIELD = re.compile(r"<\w+:\w+>")


def control_plane(application: WSGIHandler, *, share: float) -> Find:
    """The rule of a path of Django's, None for any other. `share` of the requests get a line in the
    log."""
    lines = RequestLines(application, share)
    calls = Plane(lines, Pool("control", settings.CONTROL_THREADS, WAITING_EACH * settings.CONTROL_THREADS))
    probes = Plane(lines, Pool("probes", PROBE_THREADS, _WAITING))
    files = Plane(lines, Pool("files", FILE_THREADS, _WAITING))
    limit: int = settings.SERVING_BODY_LIMIT
    upload_limit: int = settings.ARTIFACT_LIMIT + ArtifactParser.OVERHEAD

    exact: dict[str, Rule] = {}
    patterns: list[tuple[re.Pattern[str], Rule]] = []
    for address, view in _addresses(get_resolver().url_patterns):
        methods, takes_uploads = _methods(view), ArtifactParser in getattr(view, "parser_classes", ())
        rule = Rule(
            calls if hasattr(view, "http_method_names") else probes,
            methods,
            limit if set(methods) - set(_SAFE) else 0,
            BODY_SECONDS,
            upload_limit if takes_uploads else None,
            UPLOAD_SECONDS,
        )
        if "<" in address:
            patterns.append((re.compile(_FIELD.sub("[^/]+", address)), rule))
        else:
            exact.setdefault(address, rule)

    static = Rule(files, _SAFE, 0, BODY_SECONDS)
    page = Rule(calls, ("GET", "HEAD", "POST"), limit, BODY_SECONDS)
    upload_page = Rule(calls, page.methods, limit, BODY_SECONDS, upload_limit, UPLOAD_SECONDS)
    exact[reverse("admin:login")] = Rule(calls, page.methods, LOGIN_BYTES, BODY_SECONDS)
    exact[reverse("admin:registry_modelversion_add")] = upload_page
    admin = reverse("admin:index")

    def find(path: str) -> Rule | None:
        rule = exact.get(path)
        if rule is not None:
            return rule
        if path.startswith(settings.STATIC_URL):
            return static
        if path.startswith(admin) or path == admin.rstrip("/"):
            return page
        return next((rule for pattern, rule in patterns if pattern.fullmatch(path)), None)

    return find


def _addresses(patterns: list[URLPattern | URLResolver], before: str = "/") -> Iterator[tuple[str, Any]]:
    """Every address outside the admin, with its view."""
    for pattern in patterns:
        text = before + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield text, getattr(pattern.callback, "view_class", getattr(pattern.callback, "cls", pattern.callback))
        elif getattr(pattern, "app_name", None) != "admin":
            yield from _addresses(pattern.url_patterns, text)


def _methods(view: Any) -> tuple[str, ...]:
    """What a view answers. A view that is a function is one that only reads."""
    names: list[str] = getattr(view, "http_method_names", [])
    methods = [name.upper() for name in names if hasattr(view, name) and name not in {"options", "head"}]
    if not methods:
        return _SAFE
    return (*methods, *(["HEAD"] if "GET" in methods else []))
