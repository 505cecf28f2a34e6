"""How a refused request is told so: as a problem document, or in the words of a protocol."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from serving import problems
from serving.problems import Problem


class Refusal(NamedTuple):
    """An answer other than success, as it goes over the wire."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]


Tell = Callable[[Mapping[str, Any], Problem], Refusal]
"""From a request, as WSGI's environ has it, and what is wrong to the answer. The environ may be
empty: of a request that could not be read."""


def tell_problem(environ: Mapping[str, Any], problem: Problem) -> Refusal:
    """A refusal as a problem document; a protocol with errors of its own has another of these."""
    return Refusal(problem.status, problems.CONTENT_TYPE, problem.body(), problem.headers)
