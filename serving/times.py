"""How times are told: RFC 3339 in UTC, with Z. A type for documents, a function for what is no
document, and one for what callers say."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

Time = Annotated[datetime, Meta(tz=True)]


def told(at: datetime) -> str:
    """`at`, which has a zone and is in UTC, as a document tells it."""
    return at.isoformat().replace("+00:00", "Z")


def in_utc(at: datetime) -> datetime:
    """A caller's time, which has a zone. Raises ValueError for one that UTC's calendar does not
    have: the first and last hours of years 1 and 9999 elsewhere."""
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time between the years 1 and 9999 in UTC was expected") from error
