"""What happened to an experiment: who did what and why, and how its policy moved the traffic."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from noregret.experiments.models import Experiment
from noregret.learning.standing_history import Standing
from noregret.trail.models import AuditEntry

from .chart_documents import Event
from .deeds import done, is_marked

SHOWN = 50
MOVED = 0.1
"""A share that moved by so much since it was last told is told again."""


class Happening(Struct, frozen=True):
    """`by_policy`: no entry of the trail, but a change of shares."""

    at: datetime
    who: str
    what: str
    why: str
    action: str
    by_policy: bool = False


def timeline(experiment: Experiment, entries: Sequence[AuditEntry], history: Sequence[Standing]) -> list[Happening]:
    """Newest first, the newest so many. Where no policy chooses, shares move by acts alone."""
    happened = [Happening(entry.at, entry.actor, done(entry), entry.reason, entry.action) for entry in entries]
    return sorted(
        [*happened, *(_moves(experiment, history) if experiment.policy_ is not None else [])],
        key=lambda one: one.at,
        reverse=True,
    )[:SHOWN]


def _moves(experiment: Experiment, history: Sequence[Standing]) -> list[Happening]:
    """When the policy had moved a tenth of the traffic or more. It begins with an even split of
    those who are not held out, which may be over when the learner first looks."""
    moves: list[Happening] = []
    first = history[0].shares if history else {}
    told = dict(first) if experiment.holdout else {arm: 1.0 / len(first) for arm in first}
    for point in history:
        changed = {arm for arm, share in point.shares.items() if abs(share - told.get(arm, 0.0)) >= MOVED}
        if not changed:
            continue
        parts = [
            f"{arm} {told.get(arm, 0.0):.0%} to {share:.0%}"
            for arm, share in point.shares.items()
            if arm in changed or len(point.shares) == 2
        ]
        what = f"moved the traffic: {', '.join(parts)}"
        moves.append(Happening(point.at, "the policy", what, "", "shares", by_policy=True))
        told = dict(point.shares)
    return moves


def events(experiment: Experiment, entries: Sequence[AuditEntry]) -> list[Event]:
    """The lines through charts: what the reader may know of the trail, or else start and end."""
    if not entries:
        ends = [(experiment.started_at, "started"), (experiment.ended_at, str(experiment.outcome).replace("_", " "))]
        return [Event(at.isoformat(), text) for at, text in ends if at is not None]
    return [
        Event(entry.at.isoformat(), done(entry).removesuffix(" it")) for entry in reversed(entries) if is_marked(entry)
    ]
