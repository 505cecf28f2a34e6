"""Drains an endpoint's decision stream into the ledger: COPY, idempotent by decision id, and no bad entry blocks a good one.

An entry leaves the stream only after its row is committed; whoever is killed between the two finds it again and inserts nothing.
"""

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db.backends.utils import CursorWrapper

from .decision_log import DecisionLog
from .events import DecisionEvent, decode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)
_BIGINT = 2**63
_encoder = msgspec.json.Encoder()
# A JSON escape of NUL, and not an escaped backslash before the letters u0000.
_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class StreamedDecision:
    """A decision as it came, with its place in the stream, and with what its row needs that the event holds otherwise."""

    entry_id: bytes
    body: bytes
    event: DecisionEvent
    decided_at: datetime
    context: str | None  # JSON

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

    decisions: Sequence[StreamedDecision]
    bad: Sequence[BadEntry]

    @property
    def entry_ids(self) -> list[bytes]:
        return [decision.entry_id for decision in self.decisions] + [entry.entry_id for entry in self.bad]


def read(log: DecisionLog, endpoint: str, limit: int, now: datetime) -> Batch:
    """The oldest decisions that wait, at most `limit`. They stay there. Raises redis.RedisError."""
    decisions: list[StreamedDecision] = []
    bad: list[BadEntry] = []
    for entry_id, body, content in log.read(endpoint, limit):
        if body is None:
            bad.append(BadEntry(entry_id, "it holds no decision", content))
            continue
        try:
            event = decode(body)
            at = _time(event, now)
            _check(event)
            decisions.append(StreamedDecision(entry_id, body, event, at, as_json(event.context)))
        except ValueError as error:
            bad.append(BadEntry(entry_id, str(error), body))
    return Batch(decisions, bad)


def _time(event: DecisionEvent, now: datetime) -> datetime:
    """When the decision was made. Raises ValueError for a time at which none can have been."""
    at = decided_at(event.id)
    if not _EARLIEST <= at <= now + _AHEAD:
        raise ValueError(f"decided at an impossible time, {int.from_bytes(event.id[:8], 'big')} µs")
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
    if not event.propensity > 0.0:
        raise ValueError("the chosen arm's propensity is 0")
    if not (math.isfinite(event.latency_ms) and event.latency_ms >= 0.0):
        raise ValueError("the latency is no time")
    for text, longest in ((event.unit, 256), (event.request_id, 256), (event.fallback_reason, 64)):
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

    `once`: a unit keeps its arm, so that its many decisions are one trial, the first. `closed_until`: the evidence of decisions before
    this instant is complete, so that one which comes later enters none. `sealed_until`: the same of failures beside the control's.
    """

    experiment_id: int
    once: bool
    closed_until: datetime | None
    sealed_until: datetime | None = None


_COLUMNS = (
    "id, decided_at, experiment_id, arm_id, propensities, propensity, policy_version, unit, context, request_id, "
    "latency_ms, fallback_reason, holdout, proposed_arm_id"
)
# Behind a pooler a temporary table outlives whoever made it: another version of the program, with other columns, makes its own.
_INCOMING = f"incoming_decision_{zlib.crc32(_COLUMNS.encode()):08x}"


# Who came first is kept a row a unit: asking the ledger would look into every day of it.
_FIRST_VISITS = f"""
INSERT INTO serving_firstvisit (experiment_id, unit, decision_id)
SELECT DISTINCT ON (i.experiment_id, i.unit) i.experiment_id, i.unit, i.id
FROM {_INCOMING} AS i
WHERE i.experiment_id = ANY(%(once)s) AND i.unit IS NOT NULL AND NOT i.holdout AND i.proposed_arm_id IS NULL
ORDER BY i.experiment_id, i.unit, i.decided_at, i.id
ON CONFLICT (experiment_id, unit) DO NOTHING
"""  # noqa: S608 - constants

_INSERT = f"""
INSERT INTO serving_decision ({_COLUMNS}, timely, trial)
SELECT {", ".join(f"i.{column}" for column in _COLUMNS.split(", "))},
    c.sealed_until IS NULL OR i.decided_at >= c.sealed_until,
    NOT i.holdout
    AND (c.closed_until IS NULL OR i.decided_at >= c.closed_until)
    AND (c.once IS NOT TRUE OR i.unit IS NULL OR i.proposed_arm_id IS NOT NULL OR EXISTS (
        SELECT 1 FROM serving_firstvisit AS first
        WHERE first.experiment_id = i.experiment_id AND first.unit = i.unit AND first.decision_id = i.id))
FROM {_INCOMING} AS i
LEFT JOIN unnest(%(ids)s::bigint[], %(onces)s::boolean[], %(closed)s::timestamptz[], %(sealed)s::timestamptz[])
    AS c (experiment_id, once, closed_until, sealed_until) ON c.experiment_id = i.experiment_id
ON CONFLICT (decided_at, id) DO NOTHING RETURNING id, trial
"""  # noqa: S608 - constants


def insert(
    cursor: CursorWrapper, decisions: Sequence[StreamedDecision], countings: Sequence[Counting] = ()
) -> list[tuple[StreamedDecision, bool]]:
    """Write decisions in the caller's transaction; those that were new, each once, and whether it is a trial. Order is not kept.

    A decision is a trial unless its unit was held out, had decided before where units count once, or its bucket is closed. Raises
    django.db.DataError, and the transaction is void, for a row that PostgreSQL refuses though it passed `read`.
    """
    by_id: dict[bytes, StreamedDecision] = {}
    for decision in decisions:
        by_id.setdefault(decision.event.id, decision)
    if not by_id:
        return []
    cursor.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {_INCOMING} (LIKE serving_decision INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
    )
    raw: Any = cursor.cursor
    with cursor.db.wrap_database_errors, raw.copy(f"COPY {_INCOMING} ({_COLUMNS}) FROM STDIN") as copy:
        for decision_id, decision in by_id.items():
            event = decision.event
            copy.write_row(
                (
                    decision_id.hex(),
                    decision.decided_at,
                    event.experiment_id,
                    event.arm_id,
                    event.propensities,
                    event.propensity,
                    event.policy_version,
                    event.unit,
                    decision.context,
                    event.request_id,
                    event.latency_ms,
                    event.fallback_reason,
                    event.holdout,
                    event.proposed_arm_id,
                )
            )
    once = [counting.experiment_id for counting in countings if counting.once]
    if once:
        cursor.execute(_FIRST_VISITS, {"once": once})
    cursor.execute(
        _INSERT,
        {
            "ids": [counting.experiment_id for counting in countings],
            "onces": [counting.once for counting in countings],
            "closed": [counting.closed_until for counting in countings],
            "sealed": [counting.sealed_until for counting in countings],
        },
    )
    new = [(by_id[identity.bytes], trial) for identity, trial in cursor.fetchall()]
    # The caller may insert again in the same transaction.
    cursor.execute(f"TRUNCATE {_INCOMING}")
    return new


def quarantine(cursor: CursorWrapper, stream: str, bad: Sequence[BadEntry]) -> None:
    """Keep what could not be read, where it is seen; in the caller's transaction."""
    for entry in bad:
        cursor.execute(
            "INSERT INTO serving_quarantinedevent (at, stream, entry_id, problem, body) "
            "VALUES (clock_timestamp(), %s, %s, %s, %s) ON CONFLICT (stream, entry_id) DO NOTHING",
            [stream[:128], entry.entry_id.decode(), entry.problem.replace("\x00", "")[:2000], entry.body],
        )
