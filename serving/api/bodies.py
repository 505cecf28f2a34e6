"""From an HTTP request to a typed body: size, media type, strict JSON, and a field's name for whatever is wrong."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from django.conf import settings
from django.http import HttpRequest

from serving import problems, strict_json

T = TypeVar("T")

UNCOUNTED = -1
"""A count of keys that no body has: the definite check for duplicates is made."""

_REST_BYTES = 64 * 1024 * 1024
_REST_SECONDS = 10.0
_DRAINING = threading.BoundedSemaphore(2)  # a sender that drips holds a thread: no more than these

_ANY_KEY = "[...]"
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$")


def read(request: HttpRequest) -> bytes:
    """The body, measured before it is read. Raises Problem 413 or 415."""
    check_encoding(request)
    media_type, _, parameters = request.META.get("CONTENT_TYPE", "").partition(";")
    if media_type.strip().lower() != "application/json":
        raise problems.unsupported_media_type("application/json")
    charset = re.search(r"charset\s*=\s*\"?([\w-]+)", parameters)
    if charset and charset.group(1).lower() not in {"utf-8", "utf8"}:
        raise problems.unsupported_media_type("application/json in UTF-8")
    limit: int = settings.SERVING_BODY_LIMIT
    length = request.META.get("CONTENT_LENGTH")
    if length and int(length) > limit:
        raise problems.too_large(limit)
    # Django reads nothing of a body without a length; a chunked one is read from the server itself, up to the limit.
    body: bytes = request.META["wsgi.input"].read(limit + 1) if _is_chunked(request) else request.read()
    if len(body) > limit:
        raise problems.too_large(limit)
    return body


def check_encoding(request: HttpRequest) -> None:
    """Raises Problem 415 for a body that is compressed, which no decoder of ours undoes."""
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "").strip()
    if encoding and encoding.lower() != "identity":
        raise problems.unsupported_encoding(encoding)


def drain(request: HttpRequest, limit: int) -> None:
    """Read what is left of a body that is refused, within bounds: who is still sending reads no answer.

    Only of callers with a key: it holds a thread. `limit`, in bytes, is what would have been taken; a few times that is read, no more.
    """
    length = request.META.get("CONTENT_LENGTH") or "0"
    most = max(_REST_BYTES, 4 * limit)
    if not length.isdigit() or int(length) > most or not _DRAINING.acquire(blocking=False):
        return
    try:
        read = request.META["wsgi.input"].read if _is_chunked(request) else request.read
        until = time.monotonic() + _REST_SECONDS
        while most > 0 and time.monotonic() < until:
            part = read(65_536)
            if not part:
                return
            most -= len(part)
    except OSError:  # the sender has gone
        return
    finally:
        _DRAINING.release()


def _is_chunked(request: HttpRequest) -> bool:
    return (
        not request.META.get("CONTENT_LENGTH") and "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower()
    )


def decode(body: bytes, decoder: "msgspec.json.Decoder[T]", count_keys: Callable[[T], int]) -> T:
    """The typed body. Raises Problem 400, with the field and what was expected where a field is wrong."""
    try:
        document = decoder.decode(body)
        # What a typed decoder lets pass: duplicate keys (the last one wins), NUL in strings.
        strict_json.check_decoded(body, count_keys(document))
    except msgspec.ValidationError as error:
        raise problems.invalid_fields([_named_field_error(str(error), body, decoder.type)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise problems.invalid_json(str(error)) from error
    except strict_json.InvalidJSON as error:
        raise problems.invalid_json(str(error)) from error
    return document


def _named_field_error(message: str, body: bytes, form: Any) -> problems.FieldError:
    if _ANY_KEY not in message:
        return field_error(message)
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The body is wrong further on too, so that nobody can say what it is a whole.
        document = None
    return field_error(message, document, form)


def field_error(message: str, document: Any = None, form: Any = None) -> problems.FieldError:
    """msgspec's sentence as a field and a message.

    It names no keys of a mapping, only `[...]`: with the `document` that was to be a `form`, the key is found.
    """
    path = ""
    if at := _AT.search(message):
        path = at.group("path")
        message = message[: at.start()]
        if _ANY_KEY in path:
            path = _with_key(path.partition(_ANY_KEY)[0], document, form)
    for pattern, said in ((_UNKNOWN, "unknown field"), (_MISSING, "required")):
        if named := pattern.match(message):
            name = named.group("name")
            return {"field": f"{path}.{name}" if path else name, "message": said}
    return {"field": path, "message": message[:1].lower() + message[1:]}


def _with_key(path: str, document: Any, form: Any) -> str:
    """The path of the first value that is wrong in the mapping at `path`; `path` itself where it can't be found."""
    holder: Any = document
    try:
        for index, name in _STEP.findall(path):
            holder = holder[int(index) if index else name]
    except (LookupError, TypeError):
        return path
    if not isinstance(holder, dict):
        return path
    pairs = list(holder.items())
    # msgspec stops at the first wrong value: so the shortest beginning that is refused ends with it.
    sound, refused = 0, len(pairs)
    while refused - sound > 1:
        middle = (sound + refused) // 2
        holder.clear()
        holder.update(pairs[:middle])
        try:
            msgspec.convert(document, form, strict=True)
        except msgspec.ValidationError as error:
            is_here = f"`$.{path}{_ANY_KEY}" in str(error)
        else:
            is_here = False
        sound, refused = (sound, middle) if is_here else (middle, refused)
    return f"{path}.{pairs[refused - 1][0][:64]}" if pairs else path
