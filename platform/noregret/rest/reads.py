"""What somebody looks at is read within a bounded time: a statement that runs longer is ended, and the caller is told.

Reads of the control plane alone, by API and dashboard. The learner, `rebuild` and migrations take what they take, and exports are streamed.
The limit is the transaction's own, so that it holds behind a pooler too and leaves nothing on a connection.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse

from serving import problems
from serving.problems import Problem

from .problem_response import problem_response

SAFE = ("GET", "HEAD")


@contextmanager
def bounded_reads() -> Iterator[None]:
    """Every statement inside is ended after READ_SECONDS: django.db.OperationalError, of which `took_too_long` holds."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{1000 * settings.READ_SECONDS:.0f}"])
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
        return problem_response(too_long()) if took_too_long(error) else None
