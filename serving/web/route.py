"""One address of the data plane: what answers there, by which methods, what body it takes, and how
it tells a refusal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from falcon import Response
from falcon.util import code_to_http_status

from serving import problems
from serving.problems import Problem

BODY_SECONDS = 10.0
"""A body that a client needs longer for is refused."""
AS_SET = -1
"""A limit of bodies: NOREGRET_SERVING_BODY_LIMIT, which the table of routes puts in its place."""


def tell_problem(response: Response, problem: Problem) -> None:
    """A refusal as a problem document; a protocol with errors of its own has another of these."""
    response.status = code_to_http_status(problem.status)
    response.content_type = problems.CONTENT_TYPE
    response.data = problem.body()
    for name, value in problem.headers.items():
        response.set_header(name, value)


@dataclass(frozen=True, slots=True)
class Route:
    """One address. `template` is Falcon's: a name in braces stands for one part of the path."""

    template: str
    resource: Any  # a Falcon resource: a responder a method, by its name
    methods: tuple[str, ...]
    limit: int = AS_SET  # bytes of a body, at most
    seconds: float = BODY_SECONDS  # within which a body must be whole
    tell: Callable[[Response, Problem], None] = tell_problem
