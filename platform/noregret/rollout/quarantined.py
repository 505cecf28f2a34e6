"""What was set aside is taken up again by a person, or thrown away. Both are for good, and in the
audit trail.

An event of a stream goes back into it, and the learner reads it like any other: a decision enters
the ledger once by its id, however often it comes, and what still can't be read is set aside again.
A row of the ledger was set aside by today's rules and would be again, so it can't be replayed: only
the note of it can go.
"""

from django.db import transaction
from django.db.models import QuerySet

from noregret.experiments.errors import Conflict
from noregret.experiments.models import Endpoint
from noregret.redis_client import decision_log, keys
from noregret.trail import audit
from serving.ledger.decision_log import StreamUnavailable
from serving.models import QuarantinedEvent

AT_ONCE = 1000
"""Of many alike so many are taken up at a time."""


def endpoint_of(event: QuarantinedEvent) -> str | None:
    """The endpoint whose stream it came from; None of what came from no stream that there is."""
    prefix, suffix = keys().decisions("|").split("|")
    name = event.stream.removeprefix(prefix).removesuffix(suffix)
    is_of_stream = event.stream == keys().decisions(name)[:128]
    return name if is_of_stream and Endpoint.objects.filter(name=name).exists() else None


def alike(event: QuarantinedEvent) -> QuerySet[QuarantinedEvent]:
    """Those of the same stream with the same problem, itself among them."""
    return QuarantinedEvent.objects.filter(stream=event.stream, problem=event.problem).order_by("pk")


def replay(event: QuarantinedEvent, *, all_alike: bool = False, actor: str, reason: str = "") -> int:
    """Put it back into its stream, with up to AT_ONCE alike where that is asked for; how many.
    Raises Conflict."""
    endpoint = endpoint_of(event)
    if endpoint is None:
        raise Conflict(f"{event.stream} is no stream that is read: what came from it can be discarded alone")
    with transaction.atomic():
        rows = _locked(event, all_alike)
        try:
            # Before the commit: one that fails leaves the row, and what comes twice counts once.
            decision_log().append_many(endpoint, [bytes(row.body) for row in rows])
        except StreamUnavailable as error:
            raise Conflict(f"the stream of {endpoint} did not take it ({error}): it stays in quarantine") from error
        _end(rows, event, "quarantine.replayed", endpoint, actor, reason)
    return len(rows)


def discard(event: QuarantinedEvent, *, all_alike: bool = False, actor: str, reason: str) -> int:
    """Throw it away, with up to AT_ONCE alike where that is asked for; how many. Raises
    Conflict."""
    with transaction.atomic():
        rows = _locked(event, all_alike)
        _end(rows, event, "quarantine.discarded", endpoint_of(event) or "", actor, reason)
    return len(rows)


def _locked(event: QuarantinedEvent, all_alike: bool) -> list[QuarantinedEvent]:
    wanted = alike(event) if all_alike else QuarantinedEvent.objects.filter(pk=event.pk)
    rows = list(wanted.select_for_update(skip_locked=True)[:AT_ONCE])
    if not rows:
        raise Conflict("somebody else has taken it up already")
    return rows


def _end(
    rows: list[QuarantinedEvent], event: QuarantinedEvent, action: str, endpoint: str, actor: str, reason: str
) -> None:
    """The rows go, and the trail says which: never what they held, which may name a unit."""
    QuarantinedEvent.objects.filter(pk__in=[row.pk for row in rows]).delete()
    entries = [row.entry_id for row in rows]
    audit.record(
        actor=actor,
        action=action,
        endpoint=endpoint,
        reason=reason,
        details={"stream": event.stream, "problem": event.problem, "count": len(rows), "entries": entries[:100]},
    )
