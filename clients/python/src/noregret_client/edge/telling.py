"""Tells the platform what waits. What can't be told now stays, and holds up no other.

Events are dropped here for two reasons alone: the platform said what became of each, or it said
that a body which holds one event can't be used. A refusal of anybody else (a proxy's page, a host's
name that is not allowed) says nothing of the events.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from noregret_client.documents import FeedbackResult
from noregret_client.errors import Problem, Unreachable

from .state import Batch, Event, Passed, State

log = logging.getLogger("noregret_client")

Post = Callable[[bytes], bytes]
"""Sends a body; what is answered. Raises Problem, Unreachable."""

MOST_EVENTS = 500
"""Of one request: the platform takes twice as many."""
_MOST_BYTES = 1 << 20
"""Of one request: what is smaller is too large for a platform that was set up so."""
_TOO_LARGE, _FAULT = 413, 500
_OF_THE_BODY = frozenset({"/problems/invalid-json", "/problems/invalid-fields"})
_OURS_TOO_LARGE, _NOT_FOUND = "/problems/too-large", "/problems/not-found"
_MOST_FAULTS = 32
"""One after another: a platform that fails so often is to be left alone for a while."""
_encode = msgspec.json.Encoder().encode


class _Answer(msgspec.Struct):
    results: list[FeedbackResult]


class Upload:
    """Of all that waits, in batches; each part is settled as soon as it is heard of. `told` counts
    what became of events."""

    def __init__(self, state: State, post: Post) -> None:
        self.told: Counter[str] = Counter()
        self._state = state
        self._post = post
        self._passed = Passed()
        self._faults = 0
        self._kept_for: Problem | None = None

    def run(self) -> None:
        """Raises Problem, Unreachable: at once where nothing can be told now, and at the end where
        some of it can't."""
        while (batch := self._state.batch(MOST_EVENTS, self._passed)) is not None:
            self._tell(batch)
        if self._kept_for is not None:
            raise self._kept_for

    def _tell(self, batch: Batch) -> None:
        parts: list[Sequence[Event]] = [batch.events]
        while parts:
            events = [event for event in parts.pop() if event.decision not in self._passed.decisions]
            if not events:  # rewards whose decision is passed over
                continue
            body = _encode({"receipt": batch.receipt, "events": [event.body for event in events]})
            try:
                statuses = _statuses(self._post(body), len(events))
            except Problem as error:
                if error.type == _NOT_FOUND:  # of the receipt's endpoint: others may be told
                    self._passed.receipts.add(batch.receipt)
                    self._kept_for = error
                    return
                if not _is_of_the_body(error):
                    raise
                if error.type in _OF_THE_BODY and error.field == "receipt":
                    statuses = ["refused"] * len(events)  # signed with a secret that is no more: nobody takes them
                elif len(events) > 1:
                    middle = len(events) // 2
                    parts += [events[middle:], events[:middle]]
                    self._note_fault(error)
                    continue
                elif not _is_final(error, len(body)):
                    log.warning("an event that can't be told waits: %s", error)
                    self._passed.decisions.add(events[0].decision)
                    self._kept_for = error
                    self._note_fault(error)
                    continue
                else:
                    log.warning("an event that can't be told is set aside: %s", error)
                    statuses = ["invalid"]
            heard = list(zip(events, statuses, strict=False))  # what has no status still waits
            self._state.told(heard)
            self._faults = 0
            self.told.update(statuses)

    def _note_fault(self, error: Problem) -> None:
        """Raises `error` where there were too many that are not the events' own."""
        if error.type not in _OF_THE_BODY:
            self._faults += 1
            if self._faults >= _MOST_FAULTS:
                raise error


def _is_of_the_body(error: Problem) -> bool:
    """May another body get another answer?"""
    return error.type in _OF_THE_BODY or error.status in (_TOO_LARGE, _FAULT)


def _is_final(error: Problem, size: int) -> bool:
    """Does it say of a body of one event that the event is to blame?"""
    return error.type in _OF_THE_BODY or (error.type == _OURS_TOO_LARGE and size > _MOST_BYTES)


def _statuses(answer: bytes, most: int) -> list[str]:
    """What became of the first events, at least of one and at most of so many. Raises
    Unreachable."""
    try:
        results = msgspec.json.decode(answer, type=_Answer).results
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreachable(f"an answer came that can't be read: {error}", maybe_done=True) from error
    if not results:
        raise Unreachable(f"an answer came without a status for any of {most} events", maybe_done=True)
    return [result.status for result in results[:most]]
