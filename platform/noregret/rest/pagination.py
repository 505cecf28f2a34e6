"""Lists, a page at a time: `?limit=&cursor=` in, `{"items": [...], "next_cursor": ...}` out."""

import base64
import binascii
import re
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

import msgspec
from django.db.models import Model, QuerySet
from rest_framework.request import Request

from serving import problems
from serving.api.calls import Parameter

M = TypeVar("M", bound=Model)
D = TypeVar("D")

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

PAGING = (
    Parameter("limit", int, f"Items a page, 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} by default."),
    Parameter("cursor", str, "`next_cursor` of the page before."),
)


class Page(msgspec.Struct, Generic[D], frozen=True):
    """Some of a list, and where it goes on; null at its end."""

    items: list[D]
    next_cursor: str | None


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    # By its form first: zeros in front and a thousand digits are no number that anybody means.
    if not re.fullmatch(r"[1-9][0-9]{0,2}", text) or int(text) > MAX_LIMIT:
        raise problems.invalid_fields(
            [{"field": "limit", "message": f"a whole number from 1 to {MAX_LIMIT} was expected"}]
        )
    return int(text)


def _after(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        number = int(_decoded(cursor))
    except (binascii.Error, ValueError):
        number = -1
    if not 0 < number < 2**63:
        raise problems.invalid_fields([{"field": "cursor", "message": "not a cursor that an earlier page gave"}])
    return number


def _decoded(cursor: str) -> str:
    """The number in a cursor, as `page` wrote it and in no other spelling. Raises ValueError."""
    text = base64.b64decode(cursor[:64] + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    if _cursor(text) != cursor:
        raise ValueError("not as it was given")
    return text


def _cursor(number: object) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).rstrip(b"=").decode()


def allow_parameters(request: Request, allowed: Collection[str]) -> None:
    """Raises Problem 400 for a query parameter that is not known, or that is given twice."""
    errors: list[problems.FieldError] = []
    for name, values in request.query_params.lists():
        if name not in allowed:
            errors.append({"field": name, "message": "unknown parameter"})
        elif len(values) > 1:
            errors.append({"field": name, "message": "given more than once"})
        elif "\x00" in values[0]:
            errors.append({"field": name, "message": "holds NUL"})
    if errors:
        raise problems.invalid_fields(errors)


def page(request: Request, rows: "QuerySet[M]", show: Callable[[M], D]) -> Page[D]:
    """One page of `rows`, newest first by primary key. The call declares PAGING among its
    parameters."""
    limit = _limit(request.query_params.get("limit"))
    after = _after(request.query_params.get("cursor"))
    if after is not None:
        rows = rows.filter(pk__lt=after)
    shown = list(rows.order_by("-pk")[: limit + 1])
    following = _cursor(shown[limit - 1].pk) if len(shown) > limit else None
    return Page([show(row) for row in shown[:limit]], following)
