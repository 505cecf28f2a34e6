"""Drains an endpoint's decision stream into the ledger: COPY, idempotent by decision id, and no bad
entry blocks a good one.

An entry leaves the stream only after its row is committed; whoever is killed between the two finds
it again and inserts nothing.
"""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
from django.db import IntegrityError, transaction
from django.db.backends.utils import CursorWrapper
from psycopg.errors import UniqueViolation

from . import copy_rows
from .decision_log import DecisionLog, Entry
from .events import DecisionEvent, decode, decode_all

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_US = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_AHEAD = timedelta(days=1)
_BIGINT = 2**63
_LONGEST_TEXT, _LONGEST_REASON = 256, 64
_encoder = msgspec.json.Encoder()
# A JSON escape of NUL, and not an escaped backslash before the letters u0000.
_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class StreamedDecision(msgspec.Struct, frozen=True, gc=False):
    """A decision as it came, with its place in the stream, and with what its row needs that the
    event holds otherwise."""

    entry_id: bytes
    body: bytes
    event: DecisionEvent
    decided_us: int  # µs since 1970
    context: str | None  # JSON

    @property
    def id(self) -> UUID:
        return UUID(bytes=self.event.id)

    @property
    def decided_at(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.decided_us)

    @property
    def made_at(self) -> datetime:
        """When it was decided, wherever: what a device decided comes later."""
        return self.decided_at if self.event.edge_us is None else _EPOCH + timedelta(microseconds=self.event.edge_us)


@dataclass(frozen=True, slots=True)
class BadEntry:
    """An entry that is no decision."""

    entry_id: bytes
    problem: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read of a stream gave."""

    decisions: Sequence[StreamedDecision]
    bad: Sequence[BadEntry]

    @property
    def entry_ids(self) -> list[bytes]:
        return [decision.entry_id for decision in self.decisions] + [entry.entry_id for entry in self.bad]


def read(log: DecisionLog, endpoint: str, limit: int, now: datetime) -> Batch:
    """The oldest decisions that wait, at most `limit`. They stay there. Raises redis.RedisError."""
    entries = log.read(endpoint, limit)
    latest_us = (now + _AHEAD - _EPOCH) // timedelta(microseconds=1)
    return _all_good(entries, latest_us) or _one_by_one(entries, latest_us)


def _all_good(entries: Sequence[Entry], latest_us: int) -> Batch | None:
    """The batch, checked column by column; None where something is wrong with one of them, or may
    be."""
    try:
        events = decode_all([entry.body or b"" for entry in entries])
        times = [int.from_bytes(event.id[:8], "big") for event in events]
        numbers = [number for e in events for number in (e.experiment_id, e.arm_id, e.policy_version)]
        numbers += [event.proposed_arm_id for event in events if event.proposed_arm_id is not None]
        numbers += [arm for event in events if event.excluded is not None for arm in event.excluded]
        numbers += [event.activated_us for event in events if event.activated_us is not None]
        numbers += [event.edge_us for event in events if event.edge_us is not None]
        # Those of a snapshot are often all the same, and a hundred.
        vectors = [vector for vector, _ in groupby(event.propensities for event in events)]
        shares = np.array([share for vector in vectors for share in vector], dtype=np.float64)
        chosen = np.array([event.propensity for event in events], dtype=np.float64)
        latencies = np.array([event.latency_ms for event in events], dtype=np.float64)
        units = [event.unit for event in events if event.unit is not None]
        names = [event.request_id for event in events if event.request_id is not None]
        reasons = [event.fallback_reason for event in events if event.fallback_reason is not None]
        good = (
            min(times, default=_EARLIEST_US) >= _EARLIEST_US
            and max(times, default=latest_us) <= latest_us
            and min(numbers, default=0) >= 0
            and max(numbers, default=0) < _BIGINT
            and bool(((shares >= 0.0) & (shares <= 1.0)).all())
            and bool(((chosen > 0.0) & (chosen <= 1.0)).all())
            and bool((np.isfinite(latencies) & (latencies >= 0.0)).all())
            and max(map(len, units), default=0) <= _LONGEST_TEXT
            and max(map(len, names), default=0) <= _LONGEST_TEXT
            and max(map(len, reasons), default=0) <= _LONGEST_REASON
            and not any("\x00" in "".join(texts) for texts in (units, names, reasons))
        )
        if not good:
            return None
        contexts = [as_json(event.context) for event in events]
    except ValueError:
        return None
    ids, bodies = [entry.id for entry in entries], [entry.body or b"" for entry in entries]
    return Batch(list(map(StreamedDecision, ids, bodies, events, times, contexts)), ())


def _one_by_one(entries: Sequence[Entry], latest_us: int) -> Batch:
    decisions: list[StreamedDecision] = []
    bad: list[BadEntry] = []
    for entry_id, body, content in entries:
        if body is None:
            bad.append(BadEntry(entry_id, "it holds no decision", content))
            continue
        try:
            event = decode(body)
            at = _time(event, latest_us)
            _check(event)
            decisions.append(StreamedDecision(entry_id, body, event, at, as_json(event.context)))
        except ValueError as error:
            bad.append(BadEntry(entry_id, str(error), body))
    return Batch(decisions, bad)


def _time(event: DecisionEvent, latest_us: int) -> int:
    """When the decision was made. Raises ValueError for a time at which none can have been."""
    at = int.from_bytes(event.id[:8], "big")
    if not _EARLIEST_US <= at <= latest_us:
        raise ValueError(f"decided at an impossible time, {at} µs")
    return at


def decided_at(decision_id: bytes) -> datetime:
    """When a decision was made, by its id, whatever that says."""
    return _EPOCH + timedelta(microseconds=min(int.from_bytes(decision_id[:8], "big"), 2**55))


def _check(event: DecisionEvent) -> None:
    """Raises ValueError for what the table's columns or the statistics could not take."""
    if not all(0 <= number < _BIGINT for number in (event.experiment_id, event.arm_id, event.policy_version)):
        raise ValueError("an experiment, arm or policy version is no number of ours")
    if not all(0.0 <= propensity <= 1.0 for propensity in (*event.propensities, event.propensity)):
        raise ValueError("a propensity is no probability")
    if event.proposed_arm_id is not None and not 0 <= event.proposed_arm_id < _BIGINT:
        raise ValueError("a proposed arm is no number of ours")
    if event.activated_us is not None and not 0 <= event.activated_us < _BIGINT:
        raise ValueError("activated at an impossible time")
    if event.edge_us is not None and not 0 <= event.edge_us < _BIGINT:
        raise ValueError("a device decided it at an impossible time")
    if event.excluded is not None and not all(0 <= arm < _BIGINT for arm in event.excluded):
        raise ValueError("an excluded arm is no number of ours")
    if not event.propensity > 0.0:
        raise ValueError("the chosen arm's propensity is 0")
    if not (math.isfinite(event.latency_ms) and event.latency_ms >= 0.0):
        raise ValueError("the latency is no time")
    for text, longest in (
        (event.unit, _LONGEST_TEXT),
        (event.request_id, _LONGEST_TEXT),
        (event.fallback_reason, _LONGEST_REASON),
    ):
        if text is not None and len(text) > longest:
            raise ValueError("a text is longer than its column")
        if text is not None and "\x00" in text:
            raise ValueError("a text holds NUL")


def as_json(context: dict[str, Any] | None) -> str | None:
    """Raises ValueError for what is no JSON document that PostgreSQL takes."""
    if context is None:
        return None
    try:
        text = _encoder.encode(context).decode()
    except (TypeError, RecursionError) as error:
        raise ValueError(f"the context is no JSON: {error}") from error
    if "\\u0000" in text and _NUL_IN_JSON.search(text):
        raise ValueError("the context holds NUL")
    return text


@dataclass(frozen=True, slots=True)
class Counting:
    """How an experiment's decisions are counted as independent trials.

    `once`: a unit keeps its arm, so that its many decisions are one trial, the first.
    `closed_until`: the evidence of decisions before this instant is complete, so that one which
    comes later enters none. `sealed_until`: the same of failures beside the control's.
    """

    experiment_id: int
    once: bool
    closed_until: datetime | None
    sealed_until: datetime | None = None


def _us(at: datetime | None) -> int:
    """µs since 1970; before all decisions where there is none."""
    return -(2**62) if at is None else (at - _EPOCH) // timedelta(microseconds=1)


# Who came first is kept a row a unit: asking the ledger would look into every day of it.
_FIRST_VISITS = """
INSERT INTO serving_firstvisit (experiment_id, unit, decision_id)
SELECT experiment_id, unit, id FROM json_to_recordset(%s::json) AS new (experiment_id bigint, unit text, id uuid)
ORDER BY experiment_id, unit
ON CONFLICT (experiment_id, unit) DO NOTHING
"""
_WHO_CAME_FIRST = """
SELECT first.decision_id FROM json_to_recordset(%s::json) AS new (experiment_id bigint, unit text, id uuid)
JOIN serving_firstvisit AS first ON first.experiment_id = new.experiment_id AND first.unit = new.unit AND first.decision_id = new.id
"""
_KNOWN = """
SELECT d.id FROM unnest(%s::timestamptz[], %s::uuid[]) AS new (decided_at, id)
JOIN serving_decision AS d ON d.decided_at = new.decided_at AND d.id = new.id
WHERE d.decided_at BETWEEN %s AND %s
"""
_TRIES = 3
"""An insertion that others' rows stand in the way of is tried again without those rows."""


def insert(
    cursor: CursorWrapper, decisions: Sequence[StreamedDecision], countings: Sequence[Counting] = ()
) -> list[tuple[StreamedDecision, bool]]:
    """Write decisions in the caller's transaction; those that were new, each once, and whether it
    is a trial.

    A decision is a trial unless its unit was held out, had decided before where units count once,
    or its bucket is closed. Raises django.db.DataError, and the transaction is void, for a row that
    PostgreSQL refuses though it passed `read`.

    Rows go straight into the ledger, for hardly ever one is there already: what a killed learner
    had committed and not yet forgotten, or what a disk was shipped of twice. Only where PostgreSQL
    says so is it asked which, and the rest is written.
    """
    by_id: dict[bytes, StreamedDecision] = {}
    for decision in decisions:
        by_id.setdefault(decision.event.id, decision)
    for left in range(_TRIES, 0, -1):
        if not by_id:
            return []
        try:
            with transaction.atomic():
                return _insert(cursor, list(by_id.values()), countings)
        except IntegrityError as error:
            if not isinstance(error.__cause__, UniqueViolation) or left == 1:
                raise
        times = [decision.decided_at for decision in by_id.values()]
        cursor.execute(_KNOWN, [times, [UUID(bytes=identity) for identity in by_id], min(times), max(times)])
        for (known,) in cursor.fetchall():
            del by_id[known.bytes]
    raise AssertionError("unreachable: the last try raises or returns")


def _insert(
    cursor: CursorWrapper, decisions: Sequence[StreamedDecision], countings: Sequence[Counting]
) -> list[tuple[StreamedDecision, bool]]:
    first = _first_visits(cursor, decisions, {counting.experiment_id for counting in countings if counting.once})
    rules = {one.experiment_id: (one.once, _us(one.closed_until), _us(one.sealed_until)) for one in countings}
    not_counted = (False, _us(None), _us(None))
    rows: list[copy_rows.Row] = []
    written: list[tuple[StreamedDecision, bool]] = []
    for decision in decisions:
        event, at = decision.event, decision.decided_us
        once, closed, sealed = rules.get(event.experiment_id, not_counted)
        counts = not once or event.unit is None or event.proposed_arm_id is not None or event.id in first
        trial = counts and not event.holdout and at >= closed
        rows.append((event, at, decision.context, at >= sealed, trial))
        written.append((decision, trial))
    raw: Any = cursor.cursor
    with (
        cursor.db.wrap_database_errors,
        raw.copy(f"COPY serving_decision ({copy_rows.COLUMNS}) FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.write(copy_rows.packed(rows))
    return written


def _first_visits(cursor: CursorWrapper, decisions: Sequence[StreamedDecision], once: Collection[int]) -> set[bytes]:
    """The ids of those decisions that are the first of a unit, in experiments `once` where that
    alone counts."""
    if not once:
        return set()
    came: dict[tuple[int, str], StreamedDecision] = {}
    for decision in decisions:
        event = decision.event
        if (
            event.experiment_id in once
            and event.unit is not None
            and not event.holdout
            and event.proposed_arm_id is None
        ):
            held = came.setdefault((event.experiment_id, event.unit), decision)
            if event.id < held.event.id:  # an id begins with its time
                came[event.experiment_id, event.unit] = decision
    visits = [
        {"experiment_id": experiment, "unit": unit, "id": decision.event.id.hex()}
        for (experiment, unit), decision in came.items()
    ]
    if not visits:
        return set()
    listed = [_encoder.encode(visits).decode()]
    cursor.execute(_FIRST_VISITS, listed)
    cursor.execute(_WHO_CAME_FIRST, listed)
    return {row[0].bytes for row in cursor.fetchall()}


def quarantine(cursor: CursorWrapper, stream: str, bad: Sequence[BadEntry]) -> None:
    """Keep what could not be read, where it is seen; in the caller's transaction."""
    for entry in bad:
        cursor.execute(
            "INSERT INTO serving_quarantinedevent (at, stream, entry_id, problem, body) "
            "VALUES (clock_timestamp(), %s, %s, %s, %s) ON CONFLICT (stream, entry_id) DO NOTHING",
            [stream[:128], entry.entry_id.decode(), entry.problem.replace("\x00", "")[:2000], entry.body],
        )
