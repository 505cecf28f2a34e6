"""What the entries of the audit trail say, in words."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from noregret.experiments.models import Arm, Experiment
from noregret.learning.shown.phrases import actor_told
from noregret.trail.models import AuditEntry

from .verdicts import told
from .verdicts.setting import TakenOut

# By action; names in braces are of the entry and its details.
_TOLD = {
    "experiment.created": "made the draft",
    "experiment.changed": "changed the draft",
    "experiment.started": "started it",
    "experiment.paused": "paused it",
    "experiment.resumed": "resumed it",
    "experiment.stopped": "stopped it",
    "experiment.promoted": "promoted {arm}",
    "experiment.rolled_back": "rolled it back",
    "experiment.advanced": "went to step {step}, {weight} of the units",
    "experiment.activated": "activated the policy",
    "experiment.floor_changed": "changed the floor from {before} to {floor}",
    "experiment.arm_added": "added {arm}",
    "experiment.arm_disabled": "took out {arm}",
    "experiment.arm_enabled": "put back {arm}",
    "experiment.recommended": "recommended to {action} {arm}",
    "guardrail.acted": "acted on a guardrail: {action}",
    "endpoint.created": "made the endpoint",
    "endpoint.updated": "changed the endpoint",
    "endpoint.tried": "tried it",
    "endpoint.champion_changed": "made {model} the champion",
    "endpoint.rolled_back": "rolled back to {model}",
    "model.registered": "registered {model}",
    "key.created": "made the key {name}",
    "key.revoked": "revoked the key {name}",
    "login.failed": "could not log in as {user}",
    "unit.forgotten": "forgot a unit",
    "quarantine.replayed": "replayed an event from quarantine",
    "quarantine.discarded": "discarded an event from quarantine",
    "webhook.created": "made the webhook {name}",
    "webhook.deleted": "deleted the webhook {name}",
    "mlflow.imported": "imported {name} {version} from MLflow",
    "mlflow.alias_moved": "moved MLflow\N{RIGHT SINGLE QUOTATION MARK}s alias {alias} to {name} {version}",
    "mlflow.alias_not_moved": "could not move MLflow\N{RIGHT SINGLE QUOTATION MARK}s alias {alias} to {name} {version}",
}

# What a line through a chart marks: these begin or change what the chart shows.
_UNMARKED = ("experiment.created", "experiment.changed", "experiment.recommended")


def done(entry: AuditEntry) -> str:
    """What was done; the action's own name where it has no words here."""
    said = _TOLD.get(entry.action)
    return entry.action if said is None else said.format_map(_Names(entry)).strip()


def by_whom(entry: AuditEntry, now: datetime) -> str:
    """'by root at 14:32 UTC (too slow)'."""
    why = f" ({entry.reason})" if entry.reason else ""
    return f"by {actor_told(entry.actor)} {told.when(entry.at, now)}{why}"


def taken_out(experiment: Experiment, arms: Sequence[Arm], now: datetime) -> tuple[TakenOut, ...]:
    """Arms that a guardrail took out and nobody has put back. What the platform did by itself is
    told to whoever sees the experiment."""
    names = [arm.name for arm in arms if not arm.enabled]
    if not names:
        return ()
    moved = AuditEntry.objects.filter(
        experiment=experiment.name, action__in=("experiment.arm_disabled", "experiment.arm_enabled")
    )
    last = {str(entry.details.get("arm")): entry for entry in moved.order_by("pk")}
    acts = [(name, last[name]) for name in names if name in last and last[name].actor == "guardrail"]
    return tuple(
        TakenOut(name, str(entry.details.get("figures", {}).get("metric", "")), told.when(entry.at, now), entry.reason)
        for name, entry in acts
    )


def is_marked(entry: AuditEntry) -> bool:
    """Does it change what an experiment's charts show?"""
    return entry.action.startswith(("experiment.", "guardrail.")) and entry.action not in _UNMARKED


class _Names(dict[str, str]):
    """What stands for the names in braces. Entries of before may lack some."""

    def __init__(self, entry: AuditEntry) -> None:
        details = entry.details
        super().__init__(
            {name: value for name, value in details.items() if isinstance(value, str)}
            | {
                name: f"{100 * details[name]:.4g}%"
                for name in ("weight", "before", "floor")
                if _is_share(details, name)
            }
            | {"action": str(details.get("action") or "").replace("_", " "), "step": str(details.get("step", ""))}
            | ({"model": entry.model} if entry.model else {})
        )

    def __missing__(self, name: str) -> str:
        return {"weight": "more", "before": "another", "floor": "another"}.get(name, "")


def _is_share(details: dict[str, Any], name: str) -> bool:
    return isinstance(details.get(name), int | float)
