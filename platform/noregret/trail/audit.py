"""Writes the audit trail. Called by every service inside the transaction of the change that it
records."""

from typing import Any

from django.db import transaction

from . import outbox
from .models import AuditEntry


def record(
    *,
    actor: str,
    action: str,
    endpoint: str = "",
    experiment: str = "",
    model: str = "",
    reason: str = "",
    details: dict[str, Any] | None = None,
) -> AuditEntry:
    """Add an entry. Refuses to run outside a transaction: an entry without its change, or the
    reverse, is a lie."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("audit entries are written in the transaction of the change that they record")
    told = {"actor": actor, "endpoint": endpoint, "experiment": experiment, "model": model, "reason": reason}
    outbox.tell(action, endpoint=endpoint, body={**told, "details": details or {}})
    return AuditEntry.objects.create(
        actor=actor,
        action=action,
        endpoint=endpoint,
        experiment=experiment,
        model=model,
        reason=reason,
        details=details or {},
    )
