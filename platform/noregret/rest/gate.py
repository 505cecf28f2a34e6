"""What every request of the control plane passes before anything looks at it, and what every answer
tells browsers.

NUL is in no name, number or text of ours, and PostgreSQL takes it nowhere: refused here it is a
clear 400 on every address, where each query on its own would make a 500 of it.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from serving import problems

from .problem_response import problem_response

# Scripts, styles and fonts are served by us. The admin's own scripts evaluate expressions in
# attributes (Alpine), and set styles.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

Respond = Callable[[HttpRequest], HttpResponse]


def refuse_nul(respond: Respond) -> Respond:
    """400 for NUL in the path or the query."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "\x00" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            return problem_response(
                problems.Problem(400, "bad-request", "The request can't be understood", "its address holds NUL")
            )
        return respond(request)

    return middleware


def bound_pages(respond: Respond) -> Respond:
    """413 for a form larger than any of the admin's: it is read before anybody knows who sent
    it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        form = request.path_info.startswith("/admin/")
        upload = request.META.get("CONTENT_TYPE", "").startswith("multipart/form-data")
        limit: int = settings.ARTIFACT_LIMIT + settings.SERVING_BODY_LIMIT if upload else settings.SERVING_BODY_LIMIT
        if form and int(request.META.get("CONTENT_LENGTH") or 0) > limit:
            return problem_response(problems.too_large(limit))
        return respond(request)

    return middleware


def content_security(respond: Respond) -> Respond:
    """Pages may load and run what comes from here, and nothing else."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = respond(request)
        if response.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response

    return middleware
