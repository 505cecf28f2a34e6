"""Buckets of decision time: how wide, which one an instant lies in, and rows bucket by bucket. Pure
arithmetic: no row is read, and no clock asked.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Protocol, TypeVar

GRACE_SECONDS = 2.0
"""Feedback is judged by the database's clock and has so long to commit (serving.ledger.rewards)."""
LONGEST_BUCKET = timedelta(minutes=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def bucket_width(window_seconds: float) -> timedelta:
    """A sixtieth of the window, a second at least and a minute at most: a bucket must fit into
    memory, whatever the window."""
    return min(max(timedelta(seconds=1), timedelta(seconds=window_seconds) / 60), LONGEST_BUCKET)


def bucket_number(at: datetime, width: timedelta) -> int:
    """The bucket that an instant lies in, counted from 1970. Whole numbers throughout: in floating
    point an instant at the edge would lie in one bucket for the query and in the next for the
    replay."""
    return ((at - _EPOCH) // _MICROSECOND) // (width // _MICROSECOND)


def bucket_start(number: int, width: timedelta) -> datetime:
    return _EPOCH + number * (width // _MICROSECOND) * _MICROSECOND


def floor_to_bucket(at: datetime, width: timedelta) -> datetime:
    return bucket_start(bucket_number(at, width), width)


class Decided(Protocol):
    """A row with the time of its decision."""

    @property
    def decided_at(self) -> datetime: ...


_Row = TypeVar("_Row", bound=Decided)


def in_buckets(rows: Sequence[_Row], width: timedelta) -> Iterator[Sequence[_Row]]:
    """Rows in order of decision time, a part of them a bucket."""
    start = 0
    while start < len(rows):
        until = bucket_start(bucket_number(rows[start].decided_at, width) + 1, width)
        end = bisect_left(rows, until, start + 1, key=attrgetter("decided_at"))
        yield rows[start:end]
        start = end
