"""What somebody looks at or changes takes a bounded time: a statement that runs longer is ended,
and the caller is told.

Statements of the control plane alone, by API and dashboard. The learner, `rebuild` and migrations
take what they take. The limit is the transaction's own, so that it holds behind a pooler too and
leaves nothing on a connection.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse

from serving import problems
from serving.bounded_connection import within
from serving.problems import Problem

from .problem_response import Refused

SAFE = ("GET", "HEAD")
MARGIN_SECONDS = 2.0
"""Beside what a statement may take: an answer that is not there by then comes from a server that
keeps no limit."""


def limit(seconds: float) -> str:
    return f"SET LOCAL statement_timeout = {max(1, round(1000 * seconds))}"


def bound_statements(respond: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: each statement of a request is ended after READ_SECONDS, in a transaction or not,
    whoever sends it.

    The limit goes ahead of the statement in one message, which PostgreSQL takes as one transaction.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        with connection.execute_wrapper(_bounded), within(settings.READ_SECONDS + MARGIN_SECONDS):
            return respond(request)

    return middleware


def _bounded(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    if many or not isinstance(sql, str):  # one message a row, or composed elsewhere
        return execute(sql, params, many, context)
    if sql.startswith("ROLLBACK"):  # to a savepoint: before it a failed transaction takes nothing else
        return execute(sql, params, many, context)
    result = execute(f"{limit(settings.READ_SECONDS)}; {sql}", params, many, context)
    context["cursor"].cursor.nextset()  # what was asked for comes behind the limit's own answer
    return result


@contextmanager
def bounded_reads(seconds: float | None = None) -> Iterator[None]:
    """One transaction, of which every statement is ended after so many seconds (READ_SECONDS):
    django.db.OperationalError, of which `took_too_long` holds."""
    longest = settings.READ_SECONDS if seconds is None else seconds
    with within(longest + MARGIN_SECONDS), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(limit(longest))
        yield


def took_too_long(error: BaseException) -> bool:
    return isinstance(error, OperationalError) and isinstance(error.__cause__, psycopg.errors.QueryCanceled)


def too_long() -> Problem:
    return problems.read_timeout(settings.READ_SECONDS)


class BoundedPages:
    """The same for the dashboard's pages."""

    def __init__(self, respond: Callable[[HttpRequest], HttpResponse]) -> None:
        self._respond = respond

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method not in SAFE or not request.path_info.startswith("/admin/"):
            return self._respond(request)
        with bounded_reads():
            return self._respond(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Called for what a view or the rendering of its page raises."""
        if took_too_long(error):
            raise Refused(too_long()) from error
        return None
