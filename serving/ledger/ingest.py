"""Drains an endpoint's decision stream into the ledger: COPY, idempotent by decision id, and no bad entry blocks a good one.

An entry leaves the stream only after its row is committed; whoever is killed between the two finds it again and inserts nothing.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import redis
from django.db.backends.utils import CursorWrapper

from serving.redis_keys import BODY_FIELD

from .events import DecisionEvent, decode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StreamedDecision:
    """A decision as it came, with its place in the stream."""

    entry_id: bytes
    event: DecisionEvent
    decided_at: datetime

    @property
    def id(self) -> UUID:
        return UUID(bytes=self.event.id)


@dataclass(frozen=True, slots=True)
class BadEntry:
    """An entry that is no decision."""

    entry_id: bytes
    problem: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read of a stream gave."""

    decisions: list[StreamedDecision]
    bad: list[BadEntry]

    @property
    def entry_ids(self) -> list[bytes]:
        return [decision.entry_id for decision in self.decisions] + [entry.entry_id for entry in self.bad]


def read(client: redis.Redis, key: str, limit: int, now: datetime) -> Batch:
    """The oldest entries of a stream, at most `limit`. They stay there. Raises redis.RedisError."""
    decisions: list[StreamedDecision] = []
    bad: list[BadEntry] = []
    for entry_id, fields in _entries(client, key, limit):
        body = fields.get(BODY_FIELD, b"")
        try:
            event = decode(body)
            decisions.append(StreamedDecision(entry_id, event, _checked_time(event, now)))
        except ValueError as error:
            bad.append(BadEntry(entry_id, str(error), body))
    return Batch(decisions, bad)


def _entries(client: redis.Redis, key: str, limit: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """XRANGE from the start; the client is one that decodes nothing, which its types can't say."""
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(key, count=limit) or [])


def _checked_time(event: DecisionEvent, now: datetime) -> datetime:
    """The decision's time. Raises ValueError for a decision that PostgreSQL or the statistics could not take."""
    microseconds = int.from_bytes(event.id[:8], "big")
    decided_at = _EPOCH + timedelta(microseconds=min(microseconds, 2**55))
    if not _EARLIEST <= decided_at <= now + _AHEAD:
        raise ValueError(f"decided at an impossible time, {microseconds} µs")
    numbers = (*event.propensities, event.propensity, event.latency_ms)
    if not all(math.isfinite(number) for number in numbers) or not 0 < event.propensity <= 1:
        raise ValueError("a propensity or latency is no usable number")
    texts = (event.unit, event.request_id, event.fallback_reason, json.dumps(event.context))
    if any(text is not None and ("\x00" in text or "\\u0000" in text) for text in texts):
        raise ValueError("a text holds NUL")
    if len(event.unit or "") > 256 or len(event.request_id or "") > 256:
        raise ValueError("a text is longer than its column")
    return decided_at


_COLUMNS = (
    "id, decided_at, experiment_id, arm_id, propensities, propensity, policy_version, unit, context, request_id, "
    "latency_ms, fallback_reason"
)


def insert(cursor: CursorWrapper, decisions: Sequence[StreamedDecision]) -> list[StreamedDecision]:
    """Write decisions in the caller's transaction; those that were new, each once. Order is not kept."""
    if not decisions:
        return []
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS incoming_decision (LIKE serving_decision) ON COMMIT DELETE ROWS")
    raw: Any = cursor.cursor
    with raw.copy(f"COPY incoming_decision ({_COLUMNS}) FROM STDIN") as copy:
        for decision in decisions:
            event = decision.event
            copy.write_row(
                (
                    decision.id,
                    decision.decided_at,
                    event.experiment_id,
                    event.arm_id,
                    event.propensities,
                    event.propensity,
                    event.policy_version,
                    event.unit,
                    None if event.context is None else json.dumps(event.context),
                    event.request_id,
                    event.latency_ms,
                    event.fallback_reason,
                )
            )
    cursor.execute(
        f"INSERT INTO serving_decision ({_COLUMNS}) SELECT {_COLUMNS} FROM incoming_decision "  # noqa: S608 - constants
        "ON CONFLICT (decided_at, id) DO NOTHING RETURNING id"
    )
    by_id = {decision.id: decision for decision in decisions}
    new = [by_id[row[0]] for row in cursor.fetchall()]
    # The caller may insert again in the same transaction.
    cursor.execute("DELETE FROM incoming_decision")
    return new


def quarantine(cursor: CursorWrapper, stream: str, bad: Sequence[BadEntry]) -> None:
    """Keep what could not be read, where it is seen; in the caller's transaction."""
    for entry in bad:
        cursor.execute(
            "INSERT INTO serving_quarantinedevent (at, stream, entry_id, problem, body) "
            "VALUES (clock_timestamp(), %s, %s, %s, %s) ON CONFLICT (stream, entry_id) DO NOTHING",
            [stream[:128], entry.entry_id.decode(), entry.problem.replace("\x00", "")[:2000], entry.body],
        )


def forget(client: redis.Redis, key: str, entry_ids: Sequence[bytes]) -> None:
    """Take entries out of the stream, after their rows are committed. Raises redis.RedisError."""
    if entry_ids:
        client.xdel(key, *entry_ids)


def oldest(client: redis.Redis, key: str) -> datetime | None:
    """When the oldest entry of a stream was appended, or None for an empty one."""
    first = _entries(client, key, 1)
    return None if not first else _EPOCH + timedelta(milliseconds=int(first[0][0].split(b"-")[0]))
