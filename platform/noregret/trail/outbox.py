"""Who else is told of what happens, in the transaction in which it happens.

What was not done is not told, and what was done is not lost: a recipient writes rows of its own and
leaves what takes time to a task. An app above enters its recipient when it starts; the trail knows
none of them.
"""

from typing import Any, Protocol


class Recipient(Protocol):
    """Called inside the transaction of a change; an exception undoes the change with it."""

    def __call__(self, event: str, *, endpoint: str, body: dict[str, Any]) -> None: ...


_RECIPIENTS: list[Recipient] = []


def add_recipient(recipient: Recipient) -> None:
    """From now on `recipient` is told of every event; entered twice, it is told once."""
    if recipient not in _RECIPIENTS:
        _RECIPIENTS.append(recipient)


def tell(event: str, *, endpoint: str, body: dict[str, Any]) -> None:
    """Tell every recipient of `event`, an action of the audit trail. `endpoint` is empty where it
    concerns none."""
    for recipient in _RECIPIENTS:
        recipient(event, endpoint=endpoint, body=body)
