"""Decisions of which nothing is learned until they are activated: kept beside the ledger, and taken
into it by the drain once they are.

So whatever reads decisions reads activated ones alone: an unactivated one has no default reward, no
part in shares, evidence, sample ratio and guardrails, and needs no condition anywhere.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
from django.db import connection
from django.db.backends.utils import CursorWrapper

from serving.ledger import events, ingest

from .models import ActivationCount

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class HeldBack(NamedTuple):
    """A decision to be kept until it is activated, and until when that may be."""

    decision: ingest.StreamedDecision
    open_until: datetime


# An activation may have made the row: then what came from the stream is put beside it. In the order
# in which activations are written, so that the two never wait for each other.
_KEEP = """
INSERT INTO serving_waitingdecision AS held (id, experiment_id, open_until, event, endpoint_id, unit)
SELECT id, experiment_id, open_until, event, %(endpoint)s, unit
FROM unnest(%(ids)s::uuid[], %(experiments)s::bigint[], %(ends)s::timestamptz[], %(events)s::bytea[], %(units)s::varchar[])
    AS new (id, experiment_id, open_until, event, unit)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET event = EXCLUDED.event, endpoint_id = EXCLUDED.endpoint_id, unit = EXCLUDED.unit
    WHERE held.event IS NULL AND NOT held.taken
RETURNING experiment_id
"""
_COUNT = """
INSERT INTO learning_activationcount AS held (experiment_id, waited, activated)
SELECT experiment_id, count(*) FILTER (WHERE waits), count(*) FILTER (WHERE NOT waits)
FROM unnest(%s::bigint[], %s::boolean[]) AS new (experiment_id, waits) GROUP BY experiment_id ORDER BY experiment_id
ON CONFLICT (experiment_id) DO UPDATE SET
    waited = held.waited + EXCLUDED.waited, activated = held.activated + EXCLUDED.activated
"""
_READY = "activated_at IS NOT NULL AND event IS NOT NULL AND NOT taken"
_TO_TAKE = f"""
SELECT id, event, activated_at FROM serving_waitingdecision
WHERE endpoint_id = %s AND {_READY} ORDER BY id LIMIT %s
"""  # noqa: S608 - constants
_TAKE = f"""
UPDATE serving_waitingdecision SET taken = true, event = NULL, unit = NULL
WHERE id IN (SELECT id FROM serving_waitingdecision WHERE id = ANY(%s) AND {_READY} ORDER BY id FOR UPDATE)
RETURNING experiment_id
"""  # noqa: S608 - constants
_ENDPOINTS = f"SELECT DISTINCT endpoint_id FROM serving_waitingdecision WHERE {_READY}"  # noqa: S608 - constants
_BEFORE = f"SELECT 1 FROM serving_waitingdecision WHERE {_READY} AND id < %s LIMIT 1"  # noqa: S608 - constants


def keep(cursor: CursorWrapper, endpoint_id: int, decisions: Iterable[HeldBack]) -> int:
    """Keep decisions until they are activated, in the caller's transaction; how many were new."""
    by_id = {one.decision.id: one for one in decisions}
    if not by_id:
        return 0
    cursor.execute(
        _KEEP,
        {
            "endpoint": endpoint_id,
            "ids": list(by_id),
            "experiments": [one.decision.event.experiment_id for one in by_id.values()],
            "ends": [one.open_until for one in by_id.values()],
            "events": [one.decision.body for one in by_id.values()],
            "units": [one.decision.event.unit for one in by_id.values()],
        },
    )
    _count(cursor, [row[0] for row in cursor.fetchall()], waits=True)
    return len(by_id)


def to_take(endpoint_id: int, limit: int) -> ingest.Batch:
    """The oldest decisions of an endpoint that are activated and not among the others yet, at most
    `limit`."""
    with connection.cursor() as cursor:
        cursor.execute(_TO_TAKE, [endpoint_id, limit])
        rows = cursor.fetchall()
    return batch_of((_entry_id(identity), bytes(body), activated_at) for identity, body, activated_at in rows)


def batch_of(kept: Iterable[tuple[bytes, bytes, datetime | None]]) -> ingest.Batch:
    """Decisions that were kept in a table, each as (entry id, event, when it was activated or None
    where it never waited), as one read of a stream gives them."""
    decisions: list[ingest.StreamedDecision] = []
    bad: list[ingest.BadEntry] = []
    for name, body, activated_at in kept:
        try:
            event = events.decode(body)
            context = ingest.as_json(event.context)
        except ValueError as error:
            bad.append(ingest.BadEntry(name, str(error), body))
            continue
        if activated_at is not None:
            event = msgspec.structs.replace(event, activated_us=(activated_at - _EPOCH) // _MICROSECOND)
        decided_us = int.from_bytes(event.id[:8], "big")
        decisions.append(ingest.StreamedDecision(name, body, event, decided_us, context))
    return ingest.Batch(decisions, bad)


def take(cursor: CursorWrapper, entry_ids: Sequence[bytes]) -> None:
    """Note that what `to_take` gave under these names is among the decisions, or set aside; in the
    transaction that puts it there."""
    cursor.execute(_TAKE, [[UUID(name.decode().rpartition("-")[2]) for name in entry_ids]])
    _count(cursor, [row[0] for row in cursor.fetchall()], waits=False)


def endpoints_to_take() -> set[int]:
    """The endpoints of which activated decisions wait to be taken."""
    with connection.cursor() as cursor:
        cursor.execute(_ENDPOINTS)
        return {row[0] for row in cursor.fetchall()}


def any_to_take(end: datetime) -> bool:
    """Does an activated decision of before `end` wait to be taken?"""
    with connection.cursor() as cursor:
        cursor.execute(_BEFORE, [first_id_at(end)])
        return cursor.fetchone() is not None


def first_id_at(at: datetime | None) -> UUID | None:
    """The least id that a decision of this instant can have; None for none."""
    if at is None:
        return None
    return UUID(bytes=max((at - _EPOCH) // _MICROSECOND, 0).to_bytes(8, "big") + bytes(8))


def count_of(experiment_id: int) -> ActivationCount | None:
    """How many of an experiment's decisions waited, and were activated; None where none ever
    waited."""
    return ActivationCount.objects.filter(pk=experiment_id).first()


def _entry_id(identity: UUID) -> bytes:
    return f"activated-{identity.hex}".encode()


def _count(cursor: CursorWrapper, experiment_ids: Sequence[int], *, waits: bool) -> None:
    if experiment_ids:
        cursor.execute(_COUNT, [list(experiment_ids), [waits] * len(experiment_ids)])
