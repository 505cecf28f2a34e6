"""What can go wrong with a call, as exceptions.

NoregretError
├── Unreachable            nobody answered: no connection, no answer in time, or a lost one
│   └── DeadlineExceeded   the call's own time was over
├── ModelNotTaken          the model can't be written or does not answer as the original: not sent
├── RegistrationFailed     the platform looked at the artefact and refused it, after a 202
└── Problem                the platform answered, and refused
    ├── InvalidRequest     400, 408, 413, 415, 422: `errors` names each field and what was expected
    ├── NotAuthorized      401, 403
    ├── NotFound           404
    ├── Conflict           409
    └── PlatformUnavailable  429 and 5xx
"""

from collections.abc import Mapping, Sequence

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """A wrong field, as a dotted path, and what was expected of it."""

    field: str
    message: str


class NoregretError(Exception):
    """Anything that this client raises by itself."""


class Unreachable(NoregretError):
    """Nobody answered. `maybe_done`: the request may have been carried out all the same."""

    def __init__(self, detail: str, *, maybe_done: bool) -> None:
        super().__init__(detail)
        self.maybe_done = maybe_done


class DeadlineExceeded(Unreachable):
    """The call's own time was over before an answer was there."""


class ModelNotTaken(NoregretError):
    """The model can't be written as the platform takes it, or the written one answers otherwise
    than the original. Nothing was sent."""


class Problem(NoregretError):
    """A problem document (RFC 9457) of the platform.

    `type` is a stable name as `/problems/conflict`; `errors` names each wrong field and what was
    expected; `retry_after` is in seconds, None where the platform named none.
    """

    def __init__(
        self,
        status: int,
        type_: str,
        title: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}" if detail else f"{status} {title}")
        self.status = status
        self.type = type_
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after

    @property
    def field(self) -> str | None:
        """The first field that is wrong, None where no field is."""
        return self.errors[0].field if self.errors else None

    @property
    def expected(self) -> str | None:
        """What was expected of that field."""
        return self.errors[0].message if self.errors else None


class InvalidRequest(Problem):
    """The request can't be used as it is; nothing was done."""


class NotAuthorized(Problem):
    """The key is missing, wrong, expired or revoked (401), or lacks a scope (403)."""


class NotFound(Problem):
    """There is no such thing, or the key is limited to other endpoints."""


class Conflict(Problem):
    """The present state does not allow it."""


class PlatformUnavailable(Problem):
    """The platform, or what stands before it, can't answer now."""


class ProblemDocument(msgspec.Struct):
    """RFC 9457, as the platform writes it."""

    status: int = 0
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    errors: list[FieldError] = []

    def error(self, retry_after: float | None = None) -> Problem:
        """As an exception of its kind."""
        return _kind(self.status)(self.status, self.type, self.title, self.detail, self.errors, retry_after)


_decode = msgspec.json.Decoder(ProblemDocument).decode


def problem_of(status: int, reason: str, headers: Mapping[str, str], content: bytes) -> Problem:
    """A refusal as an exception, also where a proxy answered it that knows no problem documents."""
    try:
        document = _decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        document = ProblemDocument(detail=content[:200].decode(errors="replace"))
    document.status = status
    document.title = document.title or reason
    return document.error(retry_after_seconds(headers))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Of a `Retry-After` in seconds; None where there is none, or it names a date."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0.0 <= seconds < 86_400.0 else None


def _kind(status: int) -> type[Problem]:
    if status >= 500 or status == 429:
        return PlatformUnavailable
    if status in (401, 403):
        return NotAuthorized
    return {404: NotFound, 409: Conflict}.get(status, InvalidRequest)
