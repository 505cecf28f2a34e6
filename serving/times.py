"""How times are told: RFC 3339 in UTC, with Z. A type for documents, and a function for what is no
document."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

Time = Annotated[datetime, Meta(tz=True)]


def told(at: datetime) -> str:
    """`at`, which has a zone and is in UTC, as a document tells it."""
    return at.isoformat().replace("+00:00", "Z")
