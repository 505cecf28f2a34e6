"""What goes wrong on the data plane, as a problem document."""

from typing import Any

import falcon
import structlog
from falcon import Request, Response
from falcon.util import code_to_http_status

from serving import problems
from serving.problems import Problem

from .routes import BY_TEMPLATE
from .sent_bodies import drain

log = structlog.get_logger(__name__)

_TOLD_TO_ANYBODY = frozenset({401, 405})
"""Nobody's body is read for these."""


def add_to(app: "falcon.App[Request, Response]") -> None:
    """Register what answers for each kind of error. Falcon takes the most specific."""
    app.add_error_handler(Exception, _unforeseen)
    app.add_error_handler(falcon.HTTPError, _refused_by_falcon)
    app.add_error_handler(Problem, _refused)


def _refused(request: Request, response: Response, problem: Problem, params: dict[str, Any]) -> None:
    route = BY_TEMPLATE.get(request.uri_template or "")
    if problem.status not in _TOLD_TO_ANYBODY and route is not None:
        drain(request.env, route.limit)
    _tell(response, problem)


def _refused_by_falcon(request: Request, response: Response, error: falcon.HTTPError, params: dict[str, Any]) -> None:
    """A method that a route does not have, an address that no route has."""
    route = BY_TEMPLATE.get(request.uri_template or "")
    if route is None:
        _tell(response, problems.not_found(f"there is nothing at {request.path[:200]}"))
    else:
        _tell(response, problems.method_not_allowed(route.methods))


def _unforeseen(request: Request, response: Response, error: Exception, params: dict[str, Any]) -> None:
    log.error("unforeseen error", path=request.path, exc_info=error)
    _tell(response, problems.internal())


def _tell(response: Response, problem: Problem) -> None:
    response.status = code_to_http_status(problem.status)
    response.content_type = problems.CONTENT_TYPE
    response.data = problem.body()
    for name, value in problem.headers.items():
        response.set_header(name, value)
