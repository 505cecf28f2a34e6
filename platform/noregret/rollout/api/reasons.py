"""Why, for the audit trail, as callers send it."""

import msgspec

from noregret.experiments.errors import Invalid
from noregret.trail.reasons import Reason, says_nothing


class ReasonRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why, for the audit trail."""

    reason: Reason = ""


def said(reason: str) -> str:
    """The reason. Raises Invalid for one of which nothing can be read."""
    if says_nothing(reason):
        raise Invalid("reason", "nothing in it can be read: say why, or leave it out")
    return reason
