"""Strict JSON: what two readers could understand differently is refused.

UTF-8 without a BOM, no NaN or Infinity, no number beyond a double, no duplicate keys, nesting of at
most 32, no lone surrogates, no NUL. Whatever the bytes, the answer is a value or InvalidJSON.
"""

import json
import math
import re
from typing import Any

MAX_DEPTH = 32
_MAX_DIGITS = 400  # of an integer: beyond a double, and Python's own conversion refuses at 4300 with another error

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class InvalidJSON(ValueError):
    """The bytes are not JSON, or not strict JSON; the message says why and where it can."""


def loads(body: bytes) -> Any:
    """The value of a strict JSON text. Raises InvalidJSON."""
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidJSON("starts with a byte order mark")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"not UTF-8 at byte {error.start}") from error
    _check_depth(body)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except InvalidJSON:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidJSON(str(error)) from error
    _check_strings(value)
    return value


def check_decoded(body: bytes, keys: int, *, looks_for_nul: bool = True) -> None:
    """For a body that a typed decoder took: raise InvalidJSON for what it lets pass, duplicate keys
    and NUL.

    `keys` is how many keys the decoded document has. A key stands before each colon outside
    strings, so a body with just so many colons has no duplicate; only where the numbers differ is
    it parsed once more.
    """
    if body.count(b":") != keys or (looks_for_nul and b"\\u0000" in body):
        loads(body)


def _check_depth(body: bytes) -> None:
    # Cheap for nearly every body: fewer brackets than levels can't be too deep.
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", body)):
        if bracket.group() in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidJSON(f"nested deeper than {MAX_DEPTH} levels")
        else:
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidJSON(f"duplicate key {key[:64]!r}")
            seen.add(key)
    return value


def _constant(name: str) -> Any:
    raise InvalidJSON(f"{name} is no JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidJSON(f"number out of range: {text[:32]}")
    return value


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise InvalidJSON(f"number out of range: {text[:32]}…")
    value = int(text)
    if not -1.8e308 < value < 1.8e308:
        raise InvalidJSON(f"number out of range: {text[:32]}…")
    return value


def _check_strings(value: Any) -> None:
    """NUL (PostgreSQL can't keep it) and lone surrogates (no UTF-8 form), in keys and values
    alike."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if "\x00" in item:
                raise InvalidJSON("a string holds NUL")
            if not item.isascii():
                try:
                    item.encode("utf-8")
                except UnicodeEncodeError as error:
                    raise InvalidJSON("a string holds a lone surrogate") from error
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
