"""What goes wrong on the data plane, told as the protocol of its address tells it."""

from typing import Any

import falcon
import structlog
from falcon import Request, Response
from falcon.util import code_to_http_status

from serving import problems
from serving.problems import Problem

from .routes import Table
from .sent_bodies import drain

log = structlog.get_logger(__name__)

_TOLD_TO_ANYBODY = frozenset({401, 405})
"""Nobody's body is read for these."""


def add_to(app: "falcon.App[Request, Response]", table: Table) -> None:
    """Register what answers for each kind of error. Falcon takes the most specific."""

    def tell(request: Request, response: Response, problem: Problem) -> None:
        refusal = table.tell(request.env, problem)
        response.status = code_to_http_status(refusal.status)
        response.content_type = refusal.content_type
        response.data = refusal.body
        for name, value in refusal.headers.items():
            response.set_header(name, value)

    def refused(request: Request, response: Response, problem: Problem, params: dict[str, Any]) -> None:
        route = table.by_template.get(request.uri_template or "")
        if problem.status not in _TOLD_TO_ANYBODY and route is not None:
            drain(request.env, route.limit)
        tell(request, response, problem)

    def refused_by_falcon(
        request: Request, response: Response, error: falcon.HTTPError, params: dict[str, Any]
    ) -> None:
        """A method that a route does not have, an address that no route has."""
        route = table.by_template.get(request.uri_template or "")
        if route is None:
            tell(request, response, problems.not_found(f"there is nothing at {request.path[:200]}"))
        else:
            tell(request, response, problems.method_not_allowed(route.methods))

    def unforeseen(request: Request, response: Response, error: Exception, params: dict[str, Any]) -> None:
        log.error("unforeseen error", path=request.path, exc_info=error)
        tell(request, response, problems.internal())

    app.add_error_handler(Exception, unforeseen)
    app.add_error_handler(falcon.HTTPError, refused_by_falcon)
    app.add_error_handler(Problem, refused)
