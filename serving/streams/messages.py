"""A message of a stream, and what becomes of it; how consumers and engines speak of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec


class NotNow(Exception):
    """What is needed can't be had for now, and is waited for: a server that is away, room in a
    sink, the endpoint. `reason` is one word for metrics."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class CannotStart(Exception):
    """What is asked for can't be had: a topic that is not there, a library that is missing."""


@dataclass(slots=True)
class Message:
    """A message that this consumer has in hand. `place` says where it stands in its source, and is
    the same for whoever takes it up."""

    place: str
    body: bytes | None
    """None where the source has lost it."""
    name: str = ""
    """What its request is kept under: its request_id, or of one without its place in a form that no
    request_id has."""
    deliveries: int = 1
    """How often it was taken up by anybody, as far as is known."""
    handle: Any = None  # the engine's own
    since: float = 0.0  # time.monotonic() of its arrival here
    failures: int = 0
    """How often it failed while another did not."""
    others_answered: int = 0  # as the consumer counted when it last failed, or came
    next_try: float = 0.0  # time.monotonic()
    outcome: "Outcome | None" = None
    is_recorded: bool = False  # its decision is in the ledger's stream


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """What is going to be answered to a request, as whoever predicted first has kept it. Fields are
    only ever added at the end, with a default."""

    version: int
    place: str  # of the message that is answered; another of the same request is a repetition
    answer: bytes | None = None
    """None once it is answered, and for what was set aside."""
    event: bytes | None = None  # the decision, as serving.ledger.events encodes it
    reason: bytes | None = None  # why it is set aside


VERSION = 1

UNNAMED = "\0"
"""Begins the name of a request without a request_id, which can't hold it."""

SUSPECT_DELIVERIES = 3
"""What was taken up more often without an end is taken and tried alone: it may be what ends its
consumers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a message: an `answer`, or a `reason` to set it aside, or neither, where the
    request was answered by another message."""

    request: str  # what the request is called
    answer: bytes | None = None
    reason: bytes | None = None
    event: bytes | None = None
    is_kept: bool = False  # under its request: it becomes a short mark when it is answered


class Engine(Protocol):
    """The source and the sink of one consumer. Everything may raise NotNow, and then `recover`
    comes before the next call."""

    def start(self) -> None:
        """Raises CannotStart."""

    def take(self, most: int, seconds: float) -> list[Message]:
        """New messages, and those that dead consumers left; waits for some. With 0 a sign of
        life."""

    def finish(self, held: Sequence[Message]) -> list[Message]:
        """Write the outcomes and acknowledge their messages, each in one step, of those that have
        one; the messages that are done with."""

    def recover(self, held: list[Message]) -> None:
        """After a failure: from `held` goes what is not this consumer's any more."""

    def room(self) -> int | None:
        """How many more answers the sink takes; None for any number."""

    def lost(self) -> int:
        """How many messages the source was found to have dropped before anybody answered them,
        beside those that it gave without a body, since this was last asked."""

    def lag(self) -> int | None:
        """Messages of the source that nobody has answered; None where that is not known."""

    def close(self) -> None:
        """Leave the group; what is held is for others."""
