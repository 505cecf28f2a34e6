"""What stands around the data plane whatever answers inside: the hosts that it answers to, HTTPS,
browsers' questions before a call of another origin, and the headers of every answer.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from serving import problems

from .answer_heads import AnswerHeads, is_secure
from .refusals import Tell

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_HOST = re.compile(r"([a-z0-9.-]+|\[[a-f0-9]*:[a-f0-9.:]+\])(?::[0-9]+)?")
_MOST_HOSTS = 1000
"""Of the hosts that were named and allowed, so many are remembered: `*` allows any."""
_LONGEST_HOST = 261
"""DNS's 255 characters and a port."""


class Outside:
    """Wraps an application. `hosts` gives the allowed ones as Django takes them; what came without
    HTTPS is sent there where `heads` says that the service is behind it."""

    def __init__(
        self, inside: Application, *, hosts: Callable[[], Sequence[str]], heads: AnswerHeads, tell: Tell
    ) -> None:
        self._inside = inside
        self._hosts = hosts
        self._heads = heads
        self._tell = tell
        self._known: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        always = self._heads.of(environ)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            headers.extend(always)
            return start_response(status, headers, *more)

        host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
        if host not in self._known and not self._is_allowed(host):
            detail = "it is malformed, or its host name is not one that this service answers to"
            return self._refuse(environ, start, detail)
        if "%00" in environ.get("QUERY_STRING", ""):
            return self._refuse(environ, start, "its address holds NUL")
        if self._heads.https and not is_secure(environ):
            query = environ.get("QUERY_STRING", "")
            address = f"https://{host}{environ.get('PATH_INFO', '')}" + (f"?{query}" if query else "")
            start("301 Moved Permanently", [("Location", address), ("Content-Length", "0")])
            return [b""]
        preflight = self._heads.preflight(environ)
        if preflight is not None:
            start("204 No Content", [*preflight])
            return [b""]
        return self._inside(environ, start)

    def _refuse(self, environ: dict[str, Any], start: Callable[..., Any], detail: str) -> list[bytes]:
        problem = problems.Problem(400, "bad-request", "The request can't be understood", detail)
        refusal = self._tell(environ, problem)
        start(
            "400 Bad Request",
            [("Content-Type", refusal.content_type), ("Content-Length", str(len(refusal.body)))],
        )
        return [refusal.body]

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
