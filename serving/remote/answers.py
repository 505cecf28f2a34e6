"""How a model is asked over HTTP, how many bytes it may answer, and what a status means: alike for
every protocol.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from serving.deadline import DeadlineExceeded
from serving.outbound.addresses import AddressRefused
from serving.outbound.http_client import Answer, HttpClient, OutboundFailed, TooSlow
from serving.runtimes.runtime import ModelError, RowsRefused

JSON = {"Content-Type": "application/json", "Accept": "application/json"}

_FEWEST_BYTES = 1 << 20
_BYTES_A_ROW = 256 << 10
_ROWS_WRONG = frozenset({400, 422})


def most_bytes(rows: int, limit: int) -> int:
    """Of an answer for so many rows: numbers take sixteen times their text in memory, so what is
    read is bounded by what was asked for.
    """
    return min(limit, _FEWEST_BYTES + rows * _BYTES_A_ROW)


def ask(
    client: HttpClient,
    method: str,
    url: str,
    *,
    seconds: float,
    limit: int,
    headers: Mapping[str, str],
    body: bytes | None = None,
) -> bytes:
    """The body of a success. Raises DeadlineExceeded, and ModelError for anything else that is no
    success; RowsRefused where the server says that the rows are wrong.
    """
    try:
        answer = client.request(method, url, seconds=seconds, limit=limit, headers=headers, body=body)
    except TooSlow as error:
        raise DeadlineExceeded(str(error)) from error
    except (OutboundFailed, AddressRefused) as error:  # its name may lead elsewhere today
        raise ModelError(str(error)) from error
    _require_success(answer)
    return answer.body


def _require_success(answer: Answer) -> None:
    if answer.status in _ROWS_WRONG:
        raise RowsRefused(f"it answered {answer.status}: {_said(answer.body)}")
    if not 200 <= answer.status < 300:
        raise ModelError(f"it answered {answer.status}: {_said(answer.body)}")


def check_names(body: bytes, names: int) -> None:
    """Raises ModelError for an answer that gives a name twice: a decoder takes one of the two.

    `names` is how many it was seen to have. A name stands before each colon outside texts, so an
    answer with just so many colons has none twice; only another is read once more.
    """
    if body.count(b":") != names:
        json.loads(body, object_pairs_hook=_once_each, parse_int=str, parse_float=str)


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ModelError("its answer can't be read: it gives a name twice")


def unreadable(error: Exception) -> NoReturn:
    """Raises ModelError for a body that a decoder refused."""
    raise ModelError(f"its answer can't be read: {str(error)[:200]}") from error


def _said(body: bytes) -> str:
    """What a server says of its error, in one line."""
    text: Any = body[:2000].decode("utf-8", "replace")
    try:
        document = msgspec.json.decode(body[:65536])
        text = document.get("error") or document.get("message") or document.get("detail") or text
    except (msgspec.DecodeError, AttributeError, RecursionError, UnicodeDecodeError):
        pass
    return " ".join(str(text).split())[:200] or "nothing more"
