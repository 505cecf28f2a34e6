"""Errors as every caller gets them: RFC 9457 problem documents. Raised anywhere below a view,
answered at its edge.

`type` is a stable reference, `/problems/NAME`, explained in docs/problems.md.
"""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import msgspec

CONTENT_TYPE = "application/problem+json"


class FieldError(TypedDict):
    """One wrong field, as a dotted path, and what was expected of it."""

    field: str
    message: str


class ProblemDocument(TypedDict):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldError]]


class Problem(Exception):
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        name: str,
        title: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.type = f"/problems/{name}"
        self.title = title
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def document(self) -> ProblemDocument:
        document: ProblemDocument = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = self.errors
        return document

    def body(self) -> bytes:
        """The document in JSON."""
        return msgspec.json.encode(self.document())


def invalid_json(detail: str) -> Problem:
    return Problem(400, "invalid-json", "The body is not valid JSON", detail)


def invalid_fields(errors: Sequence[FieldError]) -> Problem:
    shown = "; ".join(
        f"{error['field']}: {error['message']}" if error["field"] else error["message"] for error in errors[:3]
    )
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return Problem(400, "invalid-fields", "The request has fields that can't be used", shown + more, errors=errors)


def unauthorized() -> Problem:
    return Problem(
        401,
        "no-valid-key",
        "A valid API key is needed",
        "send the key as `Authorization: Bearer KEY` or `X-API-Key: KEY`; it may be missing, wrong, expired or revoked",
        headers={"WWW-Authenticate": "Bearer"},
    )


def forbidden(scope: str) -> Problem:
    return Problem(403, "scope-missing", "The API key does not allow this", f"the scope {scope} is needed")


def not_found(detail: str) -> Problem:
    return Problem(404, "not-found", "Not found", detail)


def method_not_allowed(allowed: Sequence[str]) -> Problem:
    listed = ", ".join(allowed)
    return Problem(
        405, "method-not-allowed", "Method not allowed", f"allowed here: {listed}", headers={"Allow": listed}
    )


def conflict(detail: str) -> Problem:
    return Problem(409, "conflict", "The present state does not allow this", detail)


def too_large(limit: int) -> Problem:
    return Problem(413, "too-large", "The body is too large", f"at most {limit} bytes are taken here")


def busy() -> Problem:
    return unavailable("all threads are busy with other requests", retry_after=1)


def slow_body(seconds: float) -> Problem:
    detail = f"the request was not whole in time, or nothing of it came for {seconds:g} s"
    return Problem(408, "request-timeout", "The request took too long to come", detail)


def range_not_satisfiable(size: int) -> Problem:
    return Problem(
        416,
        "range-not-satisfiable",
        "The range lies outside the file",
        f"the file has {size} bytes",
        headers={"Content-Range": f"bytes */{size}"},
    )


def too_many(detail: str, *, retry_after: int) -> Problem:
    return Problem(
        429, "too-many-requests", "Too much was sent", detail, headers={"Retry-After": str(max(retry_after, 1))}
    )


def unsupported_media_type(expected: str) -> Problem:
    return Problem(415, "unsupported-media-type", "Unsupported media type", f"{expected} was expected")


def unsupported_encoding(encoding: str, taken: str = "identity") -> Problem:
    return Problem(
        415,
        "unsupported-encoding",
        "Unsupported content encoding",
        f"the body is encoded as {encoding[:80]}: of encodings `{taken}` is taken here; or send it as it is",
        headers={"Accept-Encoding": taken},
    )


def invalid_encoding(detail: str) -> Problem:
    return Problem(400, "invalid-encoding", "The body is not what its Content-Encoding says", detail)


def refused(detail: str) -> Problem:
    return Problem(422, "artifact-refused", "The artefact is refused", detail)


def internal() -> Problem:
    return Problem(500, "internal", "Something went wrong", "the fault is on this side and has been logged")


def read_timeout(seconds: float) -> Problem:
    detail = f"a statement ran longer than the {seconds:g} s that it may take (NOREGRET_READ_SECONDS); ask for less, or later"
    return Problem(503, "read-timeout", "Reading took too long", detail, headers={"Retry-After": "10"})


def unavailable(detail: str, *, retry_after: int) -> Problem:
    return Problem(503, "unavailable", "Not available right now", detail, headers={"Retry-After": str(retry_after)})
