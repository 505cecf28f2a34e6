"""When an imported version becomes champion, MLflow's alias `champion` follows.

What is to be moved is written in the transaction of the change, and sent by a task: an MLflow that
is away never keeps a promotion from being made. A move is tried several times, with growing pauses
(noregret.trail.sending). Of an alias only the latest change is sent, so that a late retry undoes
nothing.
"""

import time
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from noregret.registry.models import ModelVersion
from noregret.trail import audit
from noregret.trail.sending import AT_ONCE, ATTEMPTS, MOST_PROBLEM, ROUND_SECONDS, claim, outcome

from .client import Mlflow
from .errors import ImportRefused, MlflowError
from .importing import stands_for
from .models import AliasMove, ImportedVersion

log = structlog.get_logger(__name__)

ALIAS = "champion"
ACTOR = "mlflow"
_CHANGES = frozenset({"endpoint.champion_changed", "endpoint.rolled_back"})


def enqueue(event: str, *, endpoint: str, body: dict[str, Any]) -> None:
    """A move where an imported version has become champion. A recipient of the audit trail: called
    for every entry.
    """
    if event not in _CHANGES or not settings.MLFLOW_URL:
        return
    name, _, version = body.get("model", "").partition("@")
    source = ImportedVersion.objects.filter(name=name, version=version).first()
    row = ModelVersion.objects.filter(name=name, version=version).first()
    if source is None or row is None or not stands_for(source, row):
        return
    AliasMove.objects.create(imported=source, alias=ALIAS, endpoint=endpoint, due_at=timezone.now())


def move_due() -> int:
    """Send what is due; how many aliases were moved."""
    due = AliasMove.objects.filter(state=AliasMove.State.WAITING, due_at__lte=timezone.now())
    if not settings.MLFLOW_URL or not due.exists():
        return 0
    mlflow = Mlflow()
    until = time.monotonic() + ROUND_SECONDS
    moved = 0
    try:
        for move in due.select_related("imported").order_by("due_at")[:AT_ONCE]:
            if time.monotonic() > until:
                break
            moved += _try(mlflow, move)
    finally:
        mlflow.close()
    return moved


def _try(mlflow: Mlflow, move: AliasMove) -> bool:
    """Was it moved? A move that another worker has, or that a later one overtook, is not sent."""
    rows = AliasMove.objects.filter(pk=move.pk, state=AliasMove.State.WAITING)
    now = timezone.now()
    later = AliasMove.objects.filter(imported__mlflow_name=move.imported.mlflow_name, alias=move.alias, pk__gt=move.pk)
    if later.exists():
        rows.update(state=AliasMove.State.OVERTAKEN, done_at=now)
        return False
    if not claim(rows, move, now):
        return False
    source = move.imported
    try:
        try:
            mlflow.move_alias(source.mlflow_name, move.alias, source.mlflow_version)
        finally:
            # What another worker sent meanwhile may have come before this: it has the last word.
            later.filter(state=AliasMove.State.MOVED).update(state=AliasMove.State.WAITING, due_at=now)
    except Exception as error:  # one that nobody foresaw keeps no other from being moved
        if not isinstance(error, MlflowError):
            log.exception("alias not moved", move=move.pk)
        attempts = move.attempts + 1
        is_final = isinstance(error, ImportRefused) or attempts >= ATTEMPTS
        problem = f"{type(error).__name__}: {error}"
        log.warning("alias not moved", move=move.pk, attempts=attempts, final=is_final, error=problem)
        _note(move, AliasMove.State.FAILED if is_final else AliasMove.State.WAITING, attempts, problem)
        return False
    _note(move, AliasMove.State.MOVED, move.attempts + 1, "")
    return True


@transaction.atomic
def _note(move: AliasMove, state: AliasMove.State, attempts: int, problem: str) -> None:
    """What became of it, in the audit trail once it is over."""
    is_over = state != AliasMove.State.WAITING
    changed = AliasMove.objects.filter(pk=move.pk, state=AliasMove.State.WAITING).update(
        state=state, **outcome(attempts, problem, timezone.now(), is_over=is_over)
    )
    if changed and is_over:
        source = move.imported
        audit.record(
            actor=ACTOR,
            action="mlflow.alias_moved" if state == AliasMove.State.MOVED else "mlflow.alias_not_moved",
            endpoint=move.endpoint,
            model=source.model,
            reason=problem[:MOST_PROBLEM],
            details={"name": source.mlflow_name, "version": source.mlflow_version, "alias": move.alias},
        )
