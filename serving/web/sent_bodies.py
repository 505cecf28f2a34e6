"""Bodies as WSGI hands them over: measured before they are read, and read on where they are
refused."""

import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from serving import problems
from serving.api import bodies

_REST_BYTES = 64 * 1024 * 1024
_REST_SECONDS = 10.0
_DRAINING = threading.BoundedSemaphore(2)  # a sender that drips holds a thread: no more than these
_PART = 65_536
_IS_READ = "noregret.body_is_read"
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""How zlib is to read what came with a Content-Encoding."""


def read_json(environ: dict[str, Any], limit: int) -> bytes:
    """The body, of at most `limit` bytes. Raises Problem 413 or 415."""
    bodies.check_encoding(environ.get("HTTP_CONTENT_ENCODING", ""))
    bodies.check_media_type(environ.get("CONTENT_TYPE", ""))
    return _read(environ, limit)


def read_any(environ: dict[str, Any], limit: int) -> bytes:
    """The body whatever it is sent as, of at most `limit` bytes also where it was compressed.
    Raises Problem 400, 413 or 415."""
    encoding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding in ("", "identity"):
        return _read(environ, limit)
    window = _WINDOWS.get(encoding)
    if window is None:
        raise problems.unsupported_encoding(encoding, taken=", ".join(_WINDOWS))
    return _unpacked(_read(environ, limit), window, limit)


def _unpacked(body: bytes, window: int, limit: int) -> bytes:
    unpacking = zlib.decompressobj(window)
    try:
        whole = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise problems.invalid_encoding(str(error)) from error
    if len(whole) > limit:
        raise problems.too_large(limit)
    if not unpacking.eof or unpacking.unused_data:
        raise problems.invalid_encoding("it does not end where the body does")
    return whole


def _read(environ: dict[str, Any], limit: int) -> bytes:
    length = environ.get("CONTENT_LENGTH")
    if length:
        size = _size(length)
        if size > limit:
            raise problems.too_large(limit)
        body: bytes = environ["wsgi.input"].read(size)
        environ[_IS_READ] = True
        return body
    # A body without a length is nothing, unless it comes in chunks: these are read up to the limit.
    body = environ["wsgi.input"].read(limit + 1) if _is_chunked(environ) else b""
    if len(body) > limit:
        raise problems.too_large(limit)
    environ[_IS_READ] = True
    return body


def drain(environ: Mapping[str, Any], limit: int, read: Callable[[int], bytes] | None = None) -> None:
    """Read what is left of a body that is refused, within bounds: who is still sending reads no
    answer.

    Only of callers with a key: it holds a thread. `limit`, in bytes, is what would have been taken;
    a few times that is read, no more. `read`: where something was read already by another reader
    than the server's, that one.
    """
    length = environ.get("CONTENT_LENGTH") or "0"
    most = max(_REST_BYTES, 4 * limit)
    if environ.get(_IS_READ) or not length.isdigit() or int(length) > most or not _DRAINING.acquire(blocking=False):
        return
    try:
        if read is None or _is_chunked(environ):
            read = environ["wsgi.input"].read
        until = time.monotonic() + _REST_SECONDS
        while most > 0 and time.monotonic() < until:
            part = read(_PART)
            if not part:
                return
            most -= len(part)
    except OSError:  # the sender has gone
        return
    finally:
        _DRAINING.release()


def _size(length: str) -> int:
    if not length.isdigit():
        raise problems.Problem(
            400, "bad-request", "The request can't be understood", "Content-Length is no number of bytes"
        )
    return int(length)


def _is_chunked(environ: Mapping[str, Any]) -> bool:
    return not environ.get("CONTENT_LENGTH") and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
