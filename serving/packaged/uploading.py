"""Sends what a package logged to the platform: `POST /api/v1/edge/events`, a receipt at a time.

What broke off is sent again, and the platform knows each event by its decision's id: so each is
there once, whatever dies here or there, and whoever else uploads the same log at the same time.
"""

import http.client
import json
import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

from .journal import Journal, Waiting

log = logging.getLogger(__name__)

PATH = "/api/v1/edge/events"
MOST_EVENTS = 500
MOST_BYTES = 400_000
"""Of a request's events; its receipt comes beside them, and 1 MiB is taken."""
_MOST_ANSWERED = 4 << 20
_KNOWN = frozenset({"recorded", "duplicate"})


class UploadFailed(Exception):
    """The platform was not reached, or took none of what was sent: nothing of it is lost here.
    `status`: of its answer, None where there was none; `retry_after`: after so many seconds, where
    it says so."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


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


def upload(journal: Journal, url: str, key: str, timeout: float) -> Uploaded:
    """Send all that waits. Raises UploadFailed and LogUnavailable."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UploadFailed(f"{url[:80]!r} is no address of a platform: https://HOST was expected")
    opener = urllib.request.build_opener(_NoRedirect)
    total = Uploaded(0, 0, 0)
    while (batch := journal.batch(MOST_EVENTS, MOST_BYTES)) is not None:
        events = [event for _, event in batch.decisions] + [event for _, _, event in batch.rewards]
        body = f'{{"receipt": {json.dumps(batch.receipt)}, "events": [{", ".join(events)}]}}'
        results = _posted(opener, url.rstrip("/") + PATH, key, body.encode(), timeout)
        if len(results) != len(events):
            raise UploadFailed(f"{len(results)} statuses came for {len(events)} events")
        total = Uploaded(*map(sum, zip(total, _settle(journal, batch, results), strict=True)))
    return total


def _settle(journal: Journal, batch: Waiting, results: Sequence[dict[str, Any]]) -> Uploaded:
    count = len(batch.decisions)
    sent, dropped = [], []
    for (id_, _), result in zip(batch.decisions, results[:count], strict=True):
        if result["status"] in _KNOWN:
            sent.append(id_)
        else:
            log.warning("decision %s was refused: %s %s", id_, result["status"], result.get("error"))
            dropped.append(id_)
    settled, refused = [], len(dropped)
    for (id_, metric, _), result in zip(batch.rewards, results[count:], strict=True):
        settled.append((id_, metric))
        if result["status"] not in (*_KNOWN, "late"):
            refused += 1
            if id_ not in dropped:
                log.warning("a reward of %s was refused: %s %s", id_, result["status"], result.get("error"))
    journal.settle(sent, dropped, settled)
    return Uploaded(len(sent), len(settled) - (refused - len(dropped)), refused)


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
        raise UploadFailed(_detail(error), error.code, _seconds(error.headers.get("Retry-After"))) from error
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise UploadFailed(f"no answer that could be read: {error}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return f"{error.code}: {json.loads(error.read(_MOST_ANSWERED))['detail']}"
    except (OSError, ValueError, LookupError, TypeError):
        return f"{error.code}: {error.reason}"


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None
