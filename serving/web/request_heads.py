"""What a request's head says, as WSGI's environ has it."""

from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

_MOST_NAMES = 512
_LONGEST_NAME = 64
"""What is remembered of senders is bounded in number and length."""
_KEPT: dict[bytes, str] = {}


def key_of(name: bytes) -> str:
    """The environ's key of a header; "" for one that is dropped.

    A name with an underscore is dropped: `X_API_Key` would be `X-API-Key` there, which whoever
    stands in front may have removed or set.
    """
    key = _KEPT.get(name)
    if key is None:
        text = name.decode("latin-1").upper()
        if "_" in text:
            key = ""
        elif text in {"CONTENT-TYPE", "CONTENT-LENGTH"}:
            key = text.replace("-", "_")
        else:
            key = f"HTTP_{text.replace('-', '_')}"
        if len(_KEPT) < _MOST_NAMES and len(name) <= _LONGEST_NAME:
            _KEPT[name] = key
    return key


def add_header(environ: dict[str, Any], name: bytes, value: bytes) -> None:
    key = key_of(name)
    if not key:
        return
    text = value.decode("latin-1")
    if key in environ:
        text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
    environ[key] = text


def add_address(environ: dict[str, Any], target: bytes) -> bool:
    """PATH_INFO and QUERY_STRING of a request's target; False for one that names no path of
    ours."""
    if target[:1] != b"/":
        try:
            address = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            return False
        if address.path is None or address.schema is None:
            return False
        path, query = address.path, address.query or b""
    else:
        path, _, query = target.partition(b"#")[0].partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path)
    environ["PATH_INFO"] = path.decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")
    return True


def framing(environ: dict[str, Any]) -> bytes:
    """The header that says how a request's body is told from what follows; empty where it has
    none."""
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None:
        return f"Transfer-Encoding: {coding}".encode("latin-1")
    length = environ.get("CONTENT_LENGTH", "0")
    return b"" if int(length) == 0 else f"Content-Length: {length}".encode("latin-1")
