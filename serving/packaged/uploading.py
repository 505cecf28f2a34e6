"""Sends what a package logged to the platform: `POST /api/v1/edge/events`, a receipt at a time.

What broke off is sent again, and the platform knows each event by its decision's id: so each is
there once, whatever dies here or there, and whoever else uploads the same log at the same time.

A body that is refused whole, for one event of it, is sent again by halves: what is refused alone is
set aside, and holds up no other.
"""

import http.client
import json
import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .journal import Event, Journal, Waiting

log = logging.getLogger(__name__)

PATH = "/api/v1/edge/events"
MOST_EVENTS = 500
MOST_BYTES = 400_000
"""Of a request's events; its receipt comes beside them, and 1 MiB is taken."""
_MOST_ANSWERED = 4 << 20
_KNOWN = frozenset({"recorded", "duplicate"})
_OF_THE_BODY = frozenset({400, 413, 422, 500})
"""Answers that another body may not get."""
_FAULT = 500


class UploadFailed(Exception):
    """The platform was not reached, or took none of what was sent: nothing of it is lost here.
    `status`: of its answer, None where there was none; `retry_after`: after so many seconds, where
    it says so; `field`: the first of the body that is wrong."""

    def __init__(
        self, message: str, status: int | None = None, retry_after: float | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.field = field


class Uploaded(NamedTuple):
    """How many decisions and rewards the platform has of this upload, and how many events it
    refused for good; each of those is in the log of warnings."""

    decisions: int
    rewards: int
    refused: int


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes to the address that it was given for, and nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


Post = Callable[[str, Sequence[Event]], Sequence[dict[str, Any]]]
"""Sends events under a receipt; what became of each. Raises UploadFailed."""


def upload(journal: Journal, url: str, key: str, timeout: float) -> Uploaded:
    """Send all that waits. Raises UploadFailed and LogUnavailable."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UploadFailed(f"{url[:80]!r} is no address of a platform: https://HOST was expected")
    opener = urllib.request.build_opener(_NoRedirect)

    def post(receipt: str, events: Sequence[Event]) -> Sequence[dict[str, Any]]:
        bodies = ", ".join(event.body for event in events)
        body = f'{{"receipt": {json.dumps(receipt)}, "events": [{bodies}]}}'
        results = _posted(opener, url.rstrip("/") + PATH, key, body.encode(), timeout)
        if len(results) != len(events):
            raise UploadFailed(f"{len(results)} statuses came for {len(events)} events")
        return results

    total = Uploaded(0, 0, 0)
    while (batch := journal.batch(MOST_EVENTS, MOST_BYTES)) is not None:
        total = Uploaded(*map(sum, zip(total, _tell(journal, batch, post), strict=True)))
    return total


def _tell(journal: Journal, batch: Waiting, post: Post) -> Uploaded:
    """Send a batch, by halves where it is refused whole. What is told of a part is settled at
    once."""
    total = Uploaded(0, 0, 0)
    parts: list[Sequence[Event]] = [batch.events]
    faults: list[Event] = []
    fault: UploadFailed | None = None
    is_heard = False
    while parts:
        events = parts.pop()
        try:
            results = post(batch.receipt, events)
            is_heard = True
        except UploadFailed as error:
            if error.status not in _OF_THE_BODY:
                raise
            if error.field == "receipt":  # signed with a secret that is no more: nobody takes them
                results = [{"status": "refused", "error": str(error)}] * len(events)
            elif len(events) > 1:
                middle = len(events) // 2
                parts += [events[middle:], events[:middle]]
                continue
            elif error.status == _FAULT:  # of the event, or of the platform: others tell
                faults += events
                fault = error
                continue
            else:
                results = [{"status": "invalid", "error": str(error)}]
        total = Uploaded(*map(sum, zip(total, _settle(journal, events, results), strict=True)))
    if fault is not None:
        if not is_heard:
            raise fault
        results = [{"status": "invalid", "error": str(fault)}] * len(faults)
        total = Uploaded(*map(sum, zip(total, _settle(journal, faults, results), strict=True)))
    return total


def _settle(journal: Journal, events: Sequence[Event], results: Sequence[dict[str, Any]]) -> Uploaded:
    sent: list[str] = []
    settled: list[tuple[str, str]] = []
    dropped: list[Event] = []
    for event, result in zip(events, results, strict=True):
        status = result["status"]
        if event.metric is None and status in _KNOWN:
            sent.append(event.id)
        elif event.metric is not None and status in (*_KNOWN, "late"):
            settled.append((event.id, event.metric))
        else:
            dropped.append(event)
            what = "decision" if event.metric is None else "a reward of"
            log.warning("%s %s was refused: %s %s", what, event.id, status, result.get("error"))
    journal.settle(sent, settled, dropped)
    return Uploaded(len(sent), len(settled), len(dropped))


def _posted(
    opener: urllib.request.OpenerDirector, url: str, key: str, body: bytes, timeout: float
) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - its scheme was looked at
    try:
        with opener.open(request, timeout=timeout) as answer:
            document = json.loads(answer.read(_MOST_ANSWERED))
            results: list[dict[str, Any]] = document["results"]
            return results
    except urllib.error.HTTPError as error:
        detail, field = _told(error)
        raise UploadFailed(detail, error.code, _seconds(error.headers.get("Retry-After")), field) from error
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise UploadFailed(f"no answer that could be read: {error}") from error


def _told(error: urllib.error.HTTPError) -> tuple[str, str | None]:
    """What a refusal says, and of which field."""
    try:
        problem = json.loads(error.read(_MOST_ANSWERED))
        fields = problem.get("errors") or [{"field": None}]
        return f"{error.code}: {problem['detail']}", fields[0]["field"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{error.code}: {error.reason}", None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None
