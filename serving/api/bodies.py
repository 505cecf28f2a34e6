"""From a body's bytes to a typed document: media type, strict JSON, and a field's name for whatever
is wrong.

Knows no framework: whoever has read a body says what it was sent as.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from serving import problems, strict_json

T = TypeVar("T")

UNCOUNTED = -1
"""A count of keys that no body has: the definite check for duplicates is made."""

_ANY_KEY = "[...]"
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$")
_NO_CHOICE = re.compile(r"^Invalid enum value ")
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w-]+)")


class Form(Generic[T]):
    """How a body of one type is decoded. `count_keys`: how many keys a document has, however
    deep."""

    def __init__(self, kind: type[T], count_keys: Callable[[T], int]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._count_keys = count_keys

    def decode(self, body: bytes) -> T:
        """Raises Problem 400, with the field and what was expected where a field is wrong."""
        return decode(body, self._decoder, self._count_keys)


class ListForm(Generic[T]):
    """How a body is decoded whose items are checked one by one, so that one wrong item spoils no
    other. `items` of a document are their bytes; `count_keys`: how many colons it has beside
    them."""

    def __init__(
        self, kind: type[T], items: Callable[[T], Sequence[msgspec.Raw]], count_keys: Callable[[T], int]
    ) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._items = items
        self._count_keys = count_keys

    def decode(self, body: bytes) -> T:
        """Raises Problem 400 for what is wrong beside the items, and for what is no JSON."""

        def count(document: T) -> int:
            items = [bytes(item) for item in self._items(document)]
            if body.count(b"\\u0000") != sum(item.count(b"\\u0000") for item in items):
                return UNCOUNTED
            return self._count_keys(document) + sum(item.count(b":") for item in items)

        return decode(body, self._decoder, count, holds_items=True)


def decode_item(raw: msgspec.Raw, decoder: "msgspec.json.Decoder[T]", count_keys: Callable[[T], int]) -> T:
    """An item of a list, held against the same rules as a body. Raises WrongItem."""
    body = bytes(raw)
    try:
        item = decoder.decode(body)
        strict_json.check_decoded(body, count_keys(item))
    except msgspec.ValidationError as error:
        raise WrongItem(field_error(str(error))) from error
    except strict_json.InvalidJSON as error:
        raise WrongItem({"field": _field_that_is_not_strict(body), "message": str(error)}) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WrongItem({"field": "", "message": f"it can't be read: {error}"}) from error
    return item


class WrongItem(ValueError):
    """An item of a list that can't be used; `error` says which field of it."""

    def __init__(self, error: problems.FieldError) -> None:
        super().__init__(error["message"])
        self.error = error


def _field_that_is_not_strict(body: bytes) -> str:
    """The member whose value holds what is refused; empty where none does alone."""
    for name, value in msgspec.json.decode(body, type=dict[str, Any]).items():
        try:
            strict_json.loads(msgspec.json.encode(value))
        except strict_json.InvalidJSON:
            return name
    return ""


def check_media_type(content_type: str) -> None:
    """Raises Problem 415 for what is sent as anything but JSON in UTF-8."""
    if content_type == "application/json":
        return
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower() != "application/json":
        raise problems.unsupported_media_type("application/json")
    charset = _CHARSET.search(parameters)
    if charset and charset.group(1).lower() not in {"utf-8", "utf8"}:
        raise problems.unsupported_media_type("application/json in UTF-8")


def check_encoding(encoding: str) -> None:
    """Raises Problem 415 for a body that is compressed, which no decoder of ours undoes."""
    encoding = encoding.strip()
    if encoding and encoding.lower() != "identity":
        raise problems.unsupported_encoding(encoding)


def decode(
    body: bytes, decoder: "msgspec.json.Decoder[T]", count_keys: Callable[[T], int], *, holds_items: bool = False
) -> T:
    """The typed body; of one that `holds_items` NUL is looked for by `count_keys`. Raises Problem
    400, with the field and what was expected where a field is wrong."""
    try:
        document = decoder.decode(body)
        # What a typed decoder lets pass: duplicate keys (the last one wins), NUL in strings.
        strict_json.check_decoded(body, count_keys(document), looks_for_nul=not holds_items)
    except msgspec.ValidationError as error:
        raise problems.invalid_fields([_named_field_error(str(error), body, decoder.type)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise problems.invalid_json(str(error)) from error
    except strict_json.InvalidJSON as error:
        raise problems.invalid_json(str(error)) from error
    return document


def convert(fields: dict[str, Any], form: type[T], told: Callable[[str], str]) -> T:
    """A typed document of what another protocol brought. `told`: what a field is called there, by
    its name here. Raises Problem 400."""
    try:
        return msgspec.convert(fields, form)
    except msgspec.ValidationError as invalid:
        error = field_error(str(invalid), fields, form)
        raise problems.invalid_fields([{**error, "field": told(error["field"])}]) from invalid


def _named_field_error(message: str, body: bytes, form: Any) -> problems.FieldError:
    if _ANY_KEY not in message:
        return field_error(message, form=form)
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The body is wrong further on too, so that nobody can say what it is a whole.
        document = None
    return field_error(message, document, form)


def field_error(message: str, document: Any = None, form: Any = None) -> problems.FieldError:
    """msgspec's sentence as a field and a message.

    It names no keys of a mapping, only `[...]`: with the `document` that was to be a `form`, the
    key is found. Nor does it name what could be chosen: with the `form` that is told.
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
    if _NO_CHOICE.match(message) and (choices := _choices(path, form)):
        message = f"{message}: one of {', '.join(choices)} was expected"
    return {"field": path, "message": message[:1].lower() + message[1:]}


def _with_key(path: str, document: Any, form: Any) -> str:
    """The path of the first value that is wrong in the mapping at `path`; `path` itself where it
    can't be found."""
    holder: Any = document
    try:
        for index, name in _STEP.findall(path):
            holder = holder[int(index) if index else name]
    except (LookupError, TypeError):
        return path
    if not isinstance(holder, dict):
        return path
    pairs = list(holder.items())
    # msgspec stops at the first wrong value: so the shortest beginning that is refused ends with
    # it.
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


def _choices(path: str, form: Any) -> list[str]:
    """What may stand at the path of a `form`; empty where that is not told by name."""
    if form is None:
        return []
    kinds = [inspect.type_info(form)]
    for index, name in _STEP.findall(path):
        kinds = [inner for kind in kinds for inner in _inside(kind, "" if index else name)]
    literals = [kind for outer in kinds for kind in _alternatives(outer) if isinstance(kind, inspect.LiteralType)]
    return sorted({str(value) for literal in literals for value in literal.values})


def _inside(kind: inspect.Type, name: str) -> list[inspect.Type]:
    """The types that the field or key `name` may have; of an element where `name` is empty."""
    inner: list[inspect.Type] = []
    for one in _alternatives(kind):
        if isinstance(one, inspect.StructType):
            inner += [field.type for field in one.fields if field.encode_name == name]
        elif isinstance(one, inspect.DictType):
            inner.append(one.value_type)
        elif isinstance(one, inspect.ListType | inspect.VarTupleType):
            inner.append(one.item_type)
    return inner


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _alternatives(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [one for member in kind.types for one in _alternatives(member)]
    return [kind]
