"""What an outbox's rows share, whatever they send and to whom: when the next try comes, and when it
is given up.

Written with the change that it tells of, a row is sent later by a task of the queue `deliver`. It
is claimed by moving its due time ahead, so that two workers do not send it at once and one that
dies leaves it to be sent again.
"""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import QuerySet

ATTEMPTS = 8
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 6 * 3600.0
CLAIMED_SECONDS = 60.0
ROUND_SECONDS = 20.0
"""So long a task sends at most; what is left is the next one's."""
AT_ONCE = 100
MOST_PROBLEM = 2000
"""Characters that are kept of what went wrong."""


class Outgoing(models.Model):
    """What waits to be sent, or was. A kind of it has a `state`, which begins with `waiting`."""

    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)
    problem = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


def pause_after(attempts: int) -> timedelta:
    """5 s, 20 s, 80 s, ... at most six hours."""
    return timedelta(seconds=min(FIRST_PAUSE_SECONDS * 4.0 ** (attempts - 1), LONGEST_PAUSE_SECONDS))


def claim(waiting: "QuerySet[Outgoing]", row: Outgoing, now: datetime) -> bool:
    """Is it ours to send? `waiting` are the rows that wait; another may have claimed it since it
    was read."""
    rows = waiting.filter(pk=row.pk, due_at=row.due_at)
    return bool(rows.update(due_at=now + timedelta(seconds=CLAIMED_SECONDS)))


def outcome(attempts: int, problem: str, now: datetime, *, is_over: bool) -> dict[str, object]:
    """The columns after a try; without a `problem` it was sent."""
    return {
        "attempts": attempts,
        "problem": problem[:MOST_PROBLEM],
        "due_at": now + pause_after(attempts),
        "done_at": now if is_over else None,
    }
