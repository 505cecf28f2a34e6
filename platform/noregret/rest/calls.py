"""A view's method says once, in its signature, what it takes and answers: by that it is parsed,
rendered and documented.

    @call("Make an endpoint", status=201, problems=(404, 409))
    def post(self, request: Request, body: EndpointRequest) -> Endpoint: ...

`body` is decoded before the method is called, and what it returns is rendered. A method that
answers with several statuses, or streams, declares its `answers` and returns a response.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, get_type_hints

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from serving.api.calls import JSON, Call, Parameter, declared

from .pagination import allow_parameters
from .parsers import typed

Method = Callable[..., Any]


def call(
    summary: str,
    *,
    status: int = 200,
    answers: Mapping[int, type] | None = None,
    bodies: Mapping[str, Any] | None = None,
    problems: tuple[int, ...] = (),
    parameters: tuple[Parameter, ...] = (),
    name: str | None = None,
    media_type: str = JSON,
) -> Callable[[Method], Method]:
    """Declares a method of a view. `bodies` are those that the method decodes itself; see
    serving.api.calls for the rest."""

    def declare(method: Method) -> Method:
        hints = get_type_hints(method)
        form: type | None = hints.get("body")
        answered = None if hints["return"] is type(None) else hints["return"]
        described = Call(
            summary=summary,
            answers=answers or {status: answered},
            bodies=bodies or ({} if form is None else {JSON: form}),
            problems=problems,
            parameters=parameters,
            name=name,
            media_type=media_type,
        )
        known = {parameter.name for parameter in parameters}

        @wraps(method)
        def answer(view: Any, request: Request, *args: Any, **named: Any) -> HttpResponseBase:
            if known:
                allow_parameters(request, known)
            if form is not None:
                named["body"] = typed(request, form)
            given = method(view, request, *args, **named)
            return given if isinstance(given, HttpResponseBase) else Response(given, status=status)

        return declared(described)(answer)

    return declare
