"""What every request of the control plane passes before anything looks at it.

NUL is in no name, number or text of ours, and PostgreSQL takes it nowhere: refused here it is a
clear 400 on every address, where each query on its own would make a 500 of it.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from serving import problems

from .problem_response import Refused
from .problems import NotUnderstood

Respond = Callable[[HttpRequest], HttpResponse]


def refuse_nul(respond: Respond) -> Respond:
    """400 for NUL in the path or the query."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "\x00" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            raise NotUnderstood("its address holds NUL")
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
            raise Refused(problems.too_large(limit))
        return respond(request)

    return middleware
