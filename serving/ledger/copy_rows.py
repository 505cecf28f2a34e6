"""Decisions as rows of `COPY serving_decision FROM STDIN (FORMAT binary)`.

The binary form is written here, for psycopg's own writer takes longer for a row than PostgreSQL
does: it looks up a type for each value. Source: PostgreSQL's manual, "COPY", section "Binary
Format"; the receive functions of its types.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from .events import DecisionEvent

COLUMNS = (
    "id, decided_at, experiment_id, arm_id, propensities, propensity, policy_version, unit, context, request_id, "
    "latency_ms, fallback_reason, holdout, proposed_arm_id, excluded, activated_at, edge_decided_at, timely, trial"
)
_BEGIN = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_END = struct.pack(">h", -1)
# PostgreSQL counts microseconds since 2000.
_EPOCH_US = (datetime(2000, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
_FLOAT8_OID, _INT8_OID = 701, 20
# Each value has its length before it.
_HEAD = struct.Struct(">hi16siqiqiq")  # number of values, id, decided_at, experiment, arm
_ARRAY = struct.Struct(">iiiiii")  # length, dimensions, has nulls, type of elements, size, first index
_MIDDLE = struct.Struct(">idiq")  # propensity, policy version
_LENGTH = struct.Struct(">i")
_FLOAT = struct.Struct(">id")
_INTEGER = struct.Struct(">iq")
_NULL = _LENGTH.pack(-1)
_BOOLEAN = {value: struct.pack(">i?", 1, value) for value in (False, True)}
_JSONB_VERSION = b"\x01"

Row = tuple[DecisionEvent, int, str | None, bool, bool]
"""(event, decided at in µs since 1970, context as JSON, timely, trial)"""


def packed(rows: Iterable[Row]) -> bytes:
    """All of a COPY's data."""
    parts = [_BEGIN]
    add = parts.append
    propensities: Sequence[float] | None = None
    array = b""
    for event, decided_us, context, timely, trial in rows:
        add(_HEAD.pack(19, 16, event.id, 8, decided_us - _EPOCH_US, 8, event.experiment_id, 8, event.arm_id))
        if event.propensities != propensities:  # those of a snapshot are often all the same
            propensities = event.propensities
            array = _array(propensities, _FLOAT, _FLOAT8_OID)
        add(array)
        add(_MIDDLE.pack(8, event.propensity, 8, event.policy_version))
        add(_text(event.unit))
        add(_NULL if context is None else _bytes(_JSONB_VERSION + context.encode()))
        add(_text(event.request_id))
        add(_FLOAT.pack(8, event.latency_ms))
        add(_text(event.fallback_reason))
        add(_BOOLEAN[event.holdout])
        add(_NULL if event.proposed_arm_id is None else _INTEGER.pack(8, event.proposed_arm_id))
        add(_NULL if event.excluded is None else _array(event.excluded, _INTEGER, _INT8_OID))
        add(_NULL if event.activated_us is None else _INTEGER.pack(8, event.activated_us - _EPOCH_US))
        add(_NULL if event.edge_us is None else _INTEGER.pack(8, event.edge_us - _EPOCH_US))
        add(_BOOLEAN[timely])
        add(_BOOLEAN[trial])
    add(_END)
    return b"".join(parts)


def _text(text: str | None) -> bytes:
    return _NULL if text is None else _bytes(text.encode())


def _bytes(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _array(values: Sequence[float], element: struct.Struct, kind: int) -> bytes:
    if not values:
        return struct.pack(">iiii", 12, 0, 0, kind)  # no dimensions
    elements = b"".join(element.pack(8, value) for value in values)
    return _ARRAY.pack(20 + len(elements), 1, 0, kind, len(values), 1) + elements
