"""The headers that every answer has, whoever makes it: an application in a thread, or the front
alone. They are the control plane's too (Django's middleware there), for both planes are one service
to a browser.

CORS belongs here: a page of an allowed origin reads every answer of the data plane, refusals too.
No cookie counts on the data plane, so none is ever allowed with it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_HSTS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
_ALWAYS = [
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
]
_EXPOSED = "Accept-Ranges, Content-Range, Date, ETag, Inference-Header-Content-Length, Retry-After, Server-Timing, X-Request-ID"
_TAKEN = (
    "Authorization, Content-Encoding, Content-Type, If-None-Match, If-Range, Inference-Header-Content-Length, Range, "
    "X-API-Key, X-Request-ID"
)
_PREFLIGHT = [
    ("Access-Control-Allow-Methods", "GET, HEAD, POST"),
    ("Access-Control-Allow-Headers", _TAKEN),
    ("Access-Control-Max-Age", "7200"),
]


class AnswerHeads:
    """`https`: the service is behind TLS. `origins` gives those whose pages may call the data
    plane, `*` for any."""

    def __init__(self, *, https: bool, origins: Callable[[], Sequence[str]]) -> None:
        self.https = https
        self._origins = origins

    def of(self, environ: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The headers of whatever this request is answered."""
        headers = [*_ALWAYS, _HSTS] if self.https and is_secure(environ) else _ALWAYS.copy()
        origins = self._origins()
        if origins:
            headers.append(("Vary", "Origin"))
            if self._is_allowed(environ, origins):
                headers.append(("Access-Control-Allow-Origin", environ["HTTP_ORIGIN"]))
                headers.append(("Access-Control-Expose-Headers", _EXPOSED))
        return headers

    def preflight(self, environ: Mapping[str, Any]) -> list[tuple[str, str]] | None:
        """What a browser is told that asks whether a page may call; None for any other request."""
        if environ.get("REQUEST_METHOD") != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        return _PREFLIGHT if self._is_allowed(environ, self._origins()) else None

    def _is_allowed(self, environ: Mapping[str, Any], origins: Sequence[str]) -> bool:
        origin = environ.get("HTTP_ORIGIN")
        return origin is not None and (origin in origins or "*" in origins)


def is_secure(environ: Mapping[str, Any]) -> bool:
    """Did the request come by HTTPS, as far as the proxy in front tells?"""
    told: str = environ.get("HTTP_X_FORWARDED_PROTO", "")
    return told.partition(",")[0].strip() == "https" if told else environ.get("wsgi.url_scheme") == "https"
