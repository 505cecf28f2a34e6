"""What happened to an experiment: who did what and why, and how its policy moved the traffic."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from noregret.experiments.models import Experiment
from noregret.learning.standing_history import Standing
from noregret.trail.models import AuditEntry

from .chart_documents import Event

SHOWN = 50
MOVED = 0.1
"""A share that moved by so much since it was last told is told again."""

# What an action did, with names from its details.
_DONE = {
    "created": "made the draft",
    "started": "started it",
    "paused": "paused it",
    "resumed": "resumed it",
    "stopped": "stopped it",
    "promoted": "promoted {arm}",
    "rolled_back": "rolled it back",
    "advanced": "went to step {step}, {weight} of the units",
    "activated": "activated the policy",
    "floor_changed": "changed the floor from {before} to {floor}",
    "arm_added": "added {arm}",
    "arm_disabled": "took out {arm}",
    "arm_enabled": "put back {arm}",
    "recommended": "recommended to {action} {arm}",
    "guardrail.acted": "acted on a guardrail: {action}",
}


class Happening(Struct, frozen=True):
    """`by_policy`: no entry of the trail, but a change of shares."""

    at: datetime
    who: str
    what: str
    why: str
    action: str
    by_policy: bool = False


def timeline(entries: Sequence[AuditEntry], history: Sequence[Standing]) -> list[Happening]:
    """Newest first, the newest so many."""
    happened = [
        Happening(entry.at, entry.actor, done(entry.action, entry.details), entry.reason, entry.action)
        for entry in entries
    ]
    return sorted([*happened, *_moves(history)], key=lambda one: one.at, reverse=True)[:SHOWN]


def done(action: str, details: dict[str, Any]) -> str:
    """An action in words; its own name where it has none here."""
    said = _DONE.get(action.removeprefix("experiment."))
    if said is None:
        return action
    weight = details.get("weight")
    told = {
        "arm": details.get("arm") or "",
        "step": details.get("step", ""),
        "weight": f"{weight:.0%}" if isinstance(weight, int | float) else "more",
        "before": _percent(details.get("before")),
        "floor": _percent(details.get("floor")),
        "action": str(details.get("action", "")).replace("_", " "),
    }
    return said.format(**told).strip()


def _percent(share: Any) -> str:
    return f"{100 * share:.4g}%" if isinstance(share, int | float) else "another"


def _moves(history: Sequence[Standing]) -> list[Happening]:
    """When the policy had moved a tenth of the traffic or more."""
    moves: list[Happening] = []
    told: dict[str, float] = {}
    for point in history:
        changed = {arm for arm, share in point.shares.items() if abs(share - told.get(arm, 0.0)) >= MOVED}
        if not changed:
            continue
        if told:
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
        Event(entry.at.isoformat(), done(entry.action, entry.details).removesuffix(" it"))
        for entry in reversed(entries)
        if entry.action.removeprefix("experiment.") in _DONE and not entry.action.endswith((".created", ".recommended"))
    ]
