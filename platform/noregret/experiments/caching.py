"""What an endpoint's owner says of answers that are kept (serving.prediction_cache)."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

MOST_ENTRIES = 1_000_000
LONGEST_SECONDS = 366 * 86_400


class Cache(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers that each web process keeps for requests with the same rows."""

    entries: Annotated[int, Meta(ge=1, le=MOST_ENTRIES, description="The most answers that a web process keeps.")]
    seconds: (
        Annotated[
            float,
            Meta(
                gt=0,
                le=LONGEST_SECONDS,
                description="How long an answer is good for. Without it answers of models from files are kept until "
                "there is no room, and those of remote models and Python callables, which may answer otherwise "
                "tomorrow, are not kept.",
            ),
        ]
        | None
    ) = None


def cache(row: Any) -> Cache | None:
    """As an endpoint's row keeps it; what a later version wrote beside it is passed over."""
    return None if row is None else Cache(int(row["entries"]), row.get("seconds"))
