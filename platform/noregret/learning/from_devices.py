"""Decisions that were made on devices, from where the web processes keep them
(serving_edgedecision) into the ledger: taken by the drain like those that were activated.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper

from serving.ledger import ingest

from .waiting import batch_of, first_id_at

_TO_TAKE = """
SELECT id, event FROM serving_edgedecision WHERE endpoint_id = %s AND event IS NOT NULL ORDER BY ledger_id LIMIT %s
"""
# The row stays: its id is taken, and rewards ask for it.
_TAKE = "UPDATE serving_edgedecision SET event = NULL, unit = NULL WHERE id = ANY(%s)"
_ENDPOINTS = "SELECT DISTINCT endpoint_id FROM serving_edgedecision WHERE event IS NOT NULL"
_BEFORE = "SELECT 1 FROM serving_edgedecision WHERE event IS NOT NULL AND ledger_id < %s LIMIT 1"


def to_take(endpoint_id: int, limit: int) -> ingest.Batch:
    """The oldest decisions of an endpoint that are not among the others yet, at most `limit`."""
    with connection.cursor() as cursor:
        cursor.execute(_TO_TAKE, [endpoint_id, limit])
        rows = cursor.fetchall()
    return batch_of((f"device-{identity.hex}".encode(), bytes(body), None) for identity, body in rows)


def take(cursor: CursorWrapper, entry_ids: Sequence[bytes]) -> None:
    """Note that what `to_take` gave under these names is among the decisions, or set aside; in the
    transaction that puts it there."""
    cursor.execute(_TAKE, [[UUID(name.decode().rpartition("-")[2]) for name in entry_ids]])


def endpoints_to_take() -> set[int]:
    """The endpoints of which decisions wait to be taken."""
    with connection.cursor() as cursor:
        cursor.execute(_ENDPOINTS)
        return {row[0] for row in cursor.fetchall()}


def any_to_take(end: datetime) -> bool:
    """Does a decision that came before `end` wait to be taken?"""
    with connection.cursor() as cursor:
        cursor.execute(_BEFORE, [first_id_at(end)])
        return cursor.fetchone() is not None
