"""A call of the HTTP API as a value: what it takes, what it answers, what can go wrong.

It stands at the function that answers the call, on either plane, and knows no framework. The
OpenAPI document is made of these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query. `values`, where they are given, are all that it may have."""

    name: str
    kind: type[str] | type[int] | type[bool]
    description: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """`bodies`: by media type a type, several of which any will do, or a JSON schema. `answers`:
    types by status, None for no body.

    `problems` are statuses beside those that every call with a key can answer; a call that is
    `open` needs no key, and answers what is declared alone.
    """

    summary: str
    answers: Mapping[int, type | None]
    bodies: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    name: str | None = None  # in clients that are generated; None: made from a view's address
    media_type: str = JSON
    open: bool = False
    refusal: type | None = None  # what a refusal is, in the media type of the answers; None: a problem document


def declared(call: Call) -> Callable[[F], F]:
    """Puts `call` at the function that answers it."""

    def at(answering: F) -> F:
        answering.call = call  # type: ignore[attr-defined]  # functions have no attributes to type checkers
        return answering

    return at


def call_of(answering: Any) -> Call | None:
    """What was declared at a function or method, if anything was."""
    found = getattr(answering, "call", None)
    return found if isinstance(found, Call) else None
