"""What stands around the data plane whatever answers inside: the hosts that it answers to, HTTPS,
and the headers of every answer.

They are the control plane's too (Django's middleware there), for both planes are one service to a
browser.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from serving import problems

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_HOST = re.compile(r"([a-z0-9.-]+|\[[a-f0-9]*:[a-f0-9.:]+\])(?::[0-9]+)?")
_MOST_HOSTS = 1000
"""Of the hosts that were named and allowed, so many are remembered: `*` allows any."""
_LONGEST_HOST = 261
"""DNS's 255 characters and a port."""
_HSTS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
_ALWAYS = (
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)


class Outside:
    """Wraps an application. `hosts` gives the allowed ones as Django takes them; with `https` what
    came without it is sent there."""

    def __init__(self, inside: Application, *, hosts: Callable[[], Sequence[str]], https: bool) -> None:
        self._inside = inside
        self._hosts = hosts
        self._https = https
        self._known: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        secure = self._https and _is_secure(environ)
        always = (*_ALWAYS, _HSTS) if secure else _ALWAYS

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            headers.extend(always)
            return start_response(status, headers, *more)

        host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
        if host not in self._known and not self._is_allowed(host):
            detail = "it is malformed, or its host name is not one that this service answers to"
            return _tell(start, _bad_request(detail))
        if "%00" in environ.get("QUERY_STRING", ""):
            return _tell(start, _bad_request("its address holds NUL"))
        if self._https and not secure:
            query = environ.get("QUERY_STRING", "")
            address = f"https://{host}{environ.get('PATH_INFO', '')}" + (f"?{query}" if query else "")
            start("301 Moved Permanently", [("Location", address), ("Content-Length", "0")])
            return [b""]
        return self._inside(environ, start)

    def _is_allowed(self, host: str) -> bool:
        match = _HOST.fullmatch(host.lower()) if len(host) <= _LONGEST_HOST else None
        if match is None:
            return False
        domain = match.group(1).removesuffix(".")
        if not any(_is_of(domain, pattern.lower()) for pattern in self._hosts()):
            return False
        if len(self._known) < _MOST_HOSTS:
            self._known.add(host)
        return True


def _is_of(domain: str, pattern: str) -> bool:
    if pattern.startswith("."):
        return domain.endswith(pattern) or domain == pattern[1:]
    return pattern in ("*", domain)


def _is_secure(environ: dict[str, Any]) -> bool:
    told: str = environ.get("HTTP_X_FORWARDED_PROTO", "")
    return told.partition(",")[0].strip() == "https" if told else environ.get("wsgi.url_scheme") == "https"


def _bad_request(detail: str) -> problems.Problem:
    return problems.Problem(400, "bad-request", "The request can't be understood", detail)


def _tell(start: Callable[..., Any], problem: problems.Problem) -> list[bytes]:
    body = problem.body()
    start("400 Bad Request", [("Content-Type", problems.CONTENT_TYPE), ("Content-Length", str(len(body)))])
    return [body]
