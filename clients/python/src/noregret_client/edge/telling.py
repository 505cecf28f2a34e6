"""Tells the platform what waits: a body that is refused whole, for one event of it, is told by
halves, so that what is refused alone is set aside and holds up no other.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from noregret_client.documents import FeedbackResult
from noregret_client.errors import Problem, Unreachable

from .state import Batch, Event, State

log = logging.getLogger("noregret_client")

Post = Callable[[bytes], bytes]
"""Sends a body; what is answered. Raises Problem, Unreachable."""

_OF_THE_BODY = frozenset({400, 413, 422, 500})
"""Answers that another body may not get."""
_FAULT = 500
_encode = msgspec.json.Encoder().encode


class _Answer(msgspec.Struct):
    results: list[FeedbackResult]


def tell(state: State, batch: Batch, post: Post, told: Counter[str]) -> None:
    """Tell a batch, and count in `told` what became of it; each part is settled as soon as it is
    heard of. Raises Problem, Unreachable."""
    parts: list[Sequence[Event]] = [batch.events]
    faults: list[Event] = []
    fault: Problem | None = None
    is_heard = False
    while parts:
        events = parts.pop()
        try:
            statuses = _statuses(post, batch.receipt, events)
            is_heard = True
        except Problem as error:
            if error.status not in _OF_THE_BODY:
                raise
            if error.field == "receipt":  # signed with a secret that is no more: nobody takes them
                statuses = ["refused"] * len(events)
            elif len(events) > 1:
                middle = len(events) // 2
                parts += [events[middle:], events[:middle]]
                continue
            elif error.status == _FAULT:  # of the event, or of the platform: others tell
                faults += events
                fault = error
                continue
            else:
                log.warning("an event that can't be told is set aside: %s", error)
                statuses = ["invalid"]
        _settle(state, events, statuses, told)
    if fault is not None:
        if not is_heard:
            raise fault
        log.warning("%d events that can't be told are set aside: %s", len(faults), fault)
        _settle(state, faults, ["invalid"] * len(faults), told)


def _statuses(post: Post, receipt: str, events: Sequence[Event]) -> list[str]:
    """What became of the first events, at least of one. Raises Problem, Unreachable."""
    answer = post(_encode({"receipt": receipt, "events": [event.body for event in events]}))
    try:
        results = msgspec.json.decode(answer, type=_Answer).results
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreachable(f"an answer came that can't be read: {error}", maybe_done=True) from error
    if not results:
        raise Unreachable(f"an answer came without a status for any of {len(events)} events", maybe_done=True)
    return [result.status for result in results]


def _settle(state: State, events: Sequence[Event], statuses: Sequence[str], told: Counter[str]) -> None:
    """What has no status still waits."""
    heard = list(zip(events, statuses, strict=False))
    state.told([event for event, _ in heard])
    told.update(status for _, status in heard)
