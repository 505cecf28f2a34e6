"""A column that holds a document of numbers, compressed: what is known of a hundred arms is written
as a whole, again and again.

As MessagePack a number takes 8 bytes and a bit, as JSON twice to three times as many. Rows that
were written as JSON are read as well.
"""

import zlib
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import models

if TYPE_CHECKING:
    _Bytes = models.BinaryField[dict[str, Any], dict[str, Any]]
else:
    _Bytes = models.BinaryField  # Django's own takes no parameters

_FIRST_OF_JSON = b"{"
_encoder = msgspec.msgpack.Encoder()
_EMPTY = b"{}"


def pack(document: dict[str, Any]) -> bytes:
    """The bytes of a document; JSON's where it is empty, so that such a row is readable as it
    is."""
    return zlib.compress(_encoder.encode(document)) if document else _EMPTY


def unpack(body: bytes) -> dict[str, Any]:
    """What `pack` gave, or JSON. Raises ValueError for what is neither."""
    try:
        if body[:1] == _FIRST_OF_JSON:
            return msgspec.json.decode(body, type=dict[str, Any])
        return msgspec.msgpack.decode(zlib.decompress(body), type=dict[str, Any])
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"a packed document can't be read: {error}") from error


class PackedField(_Bytes):
    """A dict of numbers, texts, lists and dicts in a bytea. Not for conditions of a query: the
    database can't look inside."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("default", dict)
        super().__init__(*args, **kwargs)

    def get_default(self) -> dict[str, Any]:
        return {}

    def get_prep_value(self, value: Any) -> Any:
        return pack(value) if isinstance(value, dict) else super().get_prep_value(value)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> dict[str, Any] | None:
        return None if value is None else unpack(bytes(value))
