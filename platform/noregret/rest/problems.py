"""Whatever goes wrong on the control plane, as a problem document."""

import sys
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.views import set_rollback

from serving import problems
from serving.problems import Problem

from .problem_response import Refused, problem_response
from .reads import too_long, took_too_long

log = structlog.get_logger(__name__)


def handle_exception(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """REST framework's exception handler."""
    set_rollback()
    return problem_response(as_problem(error))


def as_problem(error: Exception) -> Problem:
    """The problem document that tells a caller of an exception; what is unforeseen is logged and
    told as a 500."""
    match error:
        case Problem():
            return error
        case Http404():
            return problems.not_found("there is nothing at this address")
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return problems.unauthorized()
        case exceptions.PermissionDenied() | PermissionDenied():
            return problems.forbidden("manage")
        case exceptions.MethodNotAllowed():
            return Problem(405, "method-not-allowed", "Method not allowed", str(error.detail))
        case exceptions.UnsupportedMediaType():
            return problems.unsupported_media_type("application/json")
        case exceptions.NotAcceptable():
            return Problem(406, "not-acceptable", "Not acceptable", "answers here are application/json")
        case exceptions.ParseError():
            return Problem(400, "invalid-body", "The body can't be read", str(error.detail))
        case exceptions.APIException():
            return Problem(error.status_code, "refused", "The request was refused", str(error.detail))
        case OperationalError() if took_too_long(error):
            log.warning("read took too long", error=str(error))
            return too_long()
        case OperationalError() | InterfaceError():
            log.error("database out of reach", error=str(error))
            return problems.unavailable("the database can't be reached", retry_after=5)
        case _:
            log.error("unforeseen error", exc_info=error)
            return problems.internal()


# What Django answers outside REST framework; the pages of the admin have pages for it.


class NotUnderstood(Refused):
    """Says what of the request can't be understood, in words for its sender."""

    def __init__(self, detail: str) -> None:
        super().__init__(_not_understood(detail))


def handle_400(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(refusal(exception))


def refusal(exception: Exception) -> Problem:
    """What tells of an exception that Django answers as a bad request."""
    if isinstance(exception, Refused):
        return exception.problem
    return _not_understood("it is malformed, or its host name is not one that this service answers to")


def _not_understood(detail: str) -> Problem:
    return Problem(400, "bad-request", "The request can't be understood", detail)


def handle_403(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(Problem(403, "forbidden", "Not allowed", "this address is not for you"))


def handle_404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(problems.not_found(f"there is nothing at {request.path[:200]}"))


def handle_500(request: HttpRequest) -> HttpResponse:
    return problem_response(unforeseen())


def unforeseen() -> Problem:
    """What tells of the exception that is being handled; Django has logged it."""
    error = sys.exception()
    return as_problem(error) if isinstance(error, OperationalError | InterfaceError) else problems.internal()
