"""One request over one pool of connections, within so many seconds: httpx's errors become ours."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import anyio
import httpx

from .errors import DeadlineExceeded, Unreachable

KEEP_ALIVE_SECONDS = 30.0
"""Idle connections are closed after it: well before the platform (75 s) would, so that no request
is sent on a connection that is just being closed."""


class Answer(NamedTuple):
    """An answer that is whole."""

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes


_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def limits(connections: int) -> httpx.Limits:
    return httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE_SECONDS
    )


def send(http: httpx.Client, request: httpx.Request, seconds: float) -> Answer:
    """The whole answer. Raises Unreachable, DeadlineExceeded.

    httpx reads an answer's head by itself, and each of its reads may take as long as there is: a
    head that drips is the one thing that can take longer.
    """
    ends = time.monotonic() + seconds
    request.extensions["timeout"] = _each(seconds)
    try:
        response = http.send(request, stream=True)
        try:
            body = bytearray()
            # Each read may take as long as is left: a sender that drips would otherwise never end.
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() > ends:
                    raise httpx.ReadTimeout("the answer came too slowly", request=request)
        finally:
            response.close()
    except httpx.HTTPError as error:
        raise unreachable(error, seconds) from error
    return Answer(response.status_code, response.reason_phrase, response.headers, bytes(body))


async def send_async(http: httpx.AsyncClient, request: httpx.Request, seconds: float) -> Answer:
    """As `send`."""
    request.extensions["timeout"] = _each(seconds)
    try:
        with anyio.fail_after(seconds):
            response = await http.send(request)
    except httpx.HTTPError as error:
        raise unreachable(error, seconds) from error
    except TimeoutError as error:
        raise DeadlineExceeded(f"no answer within {seconds:.3g} s", maybe_done=True) from error
    return Answer(response.status_code, response.reason_phrase, response.headers, response.content)


def unreachable(error: httpx.HTTPError, seconds: float) -> Unreachable:
    """An error of a connection, and whether the request may have reached anybody."""
    maybe_done = not isinstance(error, _NOT_SENT)
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(f"no answer within {seconds:.3g} s", maybe_done=maybe_done)
    return Unreachable(f"{type(error).__name__}: {error}", maybe_done=maybe_done)


def _each(seconds: float) -> dict[str, Any]:
    return httpx.Timeout(seconds).as_dict()
