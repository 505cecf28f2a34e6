"""The types of every call as schemas, and how a call's parts refer to them."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from serving.api.calls import Call
from serving.problems import CONTENT_TYPE, ProblemDocument

from .collect import addresses

Schema = dict[str, Any]

_STATUSES = {
    400: "The request has something that can't be used",
    401: "No valid API key",
    403: "The key lacks the scope",
    404: "Not there, or another's",
    405: "The method is not allowed here",
    409: "The present state does not allow it",
    413: "The body is too large",
    415: "The body is of another type",
    416: "The range begins after the end of the file",
    422: "The artefact is refused",
    429: "The key has sent too much: again after the seconds in `Retry-After`",
    503: "A server behind the service can't be reached",
}
_ALWAYS = (400, 401, 403, 405, 503)
_WITH_BODY = (413, 415)


def described(status: int) -> str:
    """What an answer's status says."""
    return _STATUSES.get(status, "Done")


def bodies(call: Call) -> dict[str, Schema]:
    """The schema of a call's body by media type; empty where it takes none."""
    return {media_type: _of_body(body) for media_type, body in call.bodies.items()}


def answers(call: Call) -> dict[tuple[int, str], Schema | None]:
    """The schema of each answer by status and media type; None for an answer without a body."""
    good = {
        (status, call.media_type): None if kind is None else _references()[kind]
        for status, kind in call.answers.items()
    }
    if call.open:
        return {**good}
    refused = {*_ALWAYS, *call.problems, *(_WITH_BODY if call.bodies else ())}
    told, media_type = (ProblemDocument, CONTENT_TYPE) if call.refusal is None else (call.refusal, call.media_type)
    return good | {(status, media_type): _references()[told] for status in sorted(refused)}


def schemas() -> dict[str, Schema]:
    """Every component by its name."""
    return _made()[1]


def _given(body: Any) -> Any:
    """A body that is known only when all there is was loaded is told by a function."""
    return body() if callable(body) and not isinstance(body, type) else body


def _of_body(body: Any) -> Schema:
    body = _given(body)
    if isinstance(body, dict):
        return body
    if isinstance(body, tuple):
        return {"oneOf": [_references()[kind] for kind in body]}
    return _references()[body]


def _kinds() -> Iterator[Any]:
    yield ProblemDocument
    for address in addresses():
        for body in map(_given, address.call.bodies.values()):
            if not isinstance(body, dict):
                yield from body if isinstance(body, tuple) else (body,)
        yield from (kind for kind in address.call.answers.values() if kind is not None)
        if address.call.refusal is not None:
            yield address.call.refusal


def _references() -> dict[Any, Schema]:
    return _made()[0]


@cache
def _made() -> tuple[dict[Any, Schema], dict[str, Schema]]:
    kinds = list(dict.fromkeys(_kinds()))
    references, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    text = msgspec.json.encode([references, components]).decode()
    # A schema's patterns are ECMA 262's, which knows no `\Z`; its `$` is the end and nothing else.
    text = text.replace(r"\\Z", "$")
    text = re.sub(r"\bProblemDocument\b", "Problem", text)
    # A page of models is called ModelPage, as one would write it.
    references, components = msgspec.json.decode(re.sub(r"\bPage_(\w+)_(?=\")", r"\1Page", text))
    return dict(zip(kinds, references, strict=True)), components
