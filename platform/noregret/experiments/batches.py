"""What an endpoint's owner says of requests that are computed together (serving.batching)."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

MOST_ROWS = 10_000
LONGEST_WAIT_MS = 100


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests that come while a slow model of a file is busy are its next call, together."""

    rows: Annotated[int, Meta(ge=2, le=MOST_ROWS, description="The most rows of a call.")]
    wait_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=LONGEST_WAIT_MS,
            description="So long a call waits for others, where the one before it had some.",
        ),
    ] = 0.0


def batch(row: Any) -> Batch | None:
    """As an endpoint's row keeps it; what a later version wrote beside it is passed over."""
    return None if row is None else Batch(int(row["rows"]), float(row.get("wait_ms", 0.0)))
