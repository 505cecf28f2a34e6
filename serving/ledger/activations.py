"""Writes activations: what this module returned for a decision that waited, PostgreSQL has
committed.

An activation may come before the learner has drained its decision, and feedback before either. So
each of the two writes its part of one row (serving_waitingdecision), and the learner takes the row
once it has both. A reward of a decision that is not activated is kept as nobody's (NOBODY in the
place of its experiment), where nothing looks for it, and becomes its experiment's by the
activation, in the same transaction. Both hold the lock of the decision's slot from before they
look until they commit: of a reward and an activation that meet, the later one sees the earlier.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import Connection

from .statements import array, instant, run

NOBODY = 0
"""In the place of a reward's experiment while its decision waits."""

Outcome = Literal["activated", "duplicate", "late"]

# Decisions share these locks, so that a batch holds few, and takes them in order.
_LOCK = "SELECT pg_advisory_xact_lock(%s, slot) FROM unnest(%s::int[]) AS slot"
_LOCK_CLASS, _LOCK_SLOTS = 0x6E6D, 64


@dataclass(frozen=True, slots=True)
class Activation:
    """One decision that was shown."""

    decision_id: bytes
    decided_at_us: int
    experiment_id: int
    window_seconds: float


# The window is judged by the database's clock, as a reward's is. In the order in which the learner
# writes its part, so that the two never wait for each other.
_ACTIVATE = """
INSERT INTO serving_waitingdecision AS held (id, experiment_id, open_until, activated_at, taken)
SELECT id, experiment_id, open_until, clock_timestamp(), false
FROM unnest(%s::uuid[], %s::bigint[], %s::timestamptz[]) AS new (id, experiment_id, open_until)
WHERE clock_timestamp() <= open_until
ORDER BY id
ON CONFLICT (id) DO UPDATE SET activated_at = EXCLUDED.activated_at WHERE held.activated_at IS NULL
RETURNING encode(uuid_send(id), 'hex')
"""
_ACTIVATED = """
SELECT encode(uuid_send(id), 'hex') FROM serving_waitingdecision
WHERE id = ANY(%s::uuid[]) AND activated_at IS NOT NULL
"""
# Days outside the bounds are not planned for.
_GIVE = """
UPDATE serving_reward AS r SET experiment_id = new.experiment_id
FROM unnest(%s::uuid[], %s::timestamptz[], %s::bigint[]) AS new (decision_id, decided_at, experiment_id)
WHERE r.decided_at = new.decided_at AND r.decision_id = new.decision_id AND r.experiment_id = %s
AND r.decided_at BETWEEN %s::timestamptz AND %s::timestamptz
RETURNING 1
"""


def lock(connection: Connection, decision_ids: Iterable[bytes]) -> None:
    """Nobody else holds these decisions until the transaction ends."""
    run(connection, _LOCK, (_LOCK_CLASS, sorted({zlib.crc32(one) % _LOCK_SLOTS for one in decision_ids})))


def activated(connection: Connection, decision_ids: Iterable[bytes]) -> set[bytes]:
    """Those of decisions that waited which are activated; in a transaction that has locked them."""
    rows = run(connection, _ACTIVATED, (array(one.hex() for one in decision_ids),))
    return {bytes.fromhex(row[0]) for row in rows}


def write(connection: Connection, activations: Sequence[Activation]) -> list[Outcome]:
    """Activate in the caller's transaction; what became of each, in order."""
    by_id = {one.decision_id: one for one in activations}
    lock(connection, by_id)
    ordered = list(by_id.values())
    rows = run(
        connection,
        _ACTIVATE,
        (
            array(one.decision_id.hex() for one in ordered),
            array(str(one.experiment_id) for one in ordered),
            array(f'"{instant(one.decided_at_us, one.window_seconds)}"' for one in ordered),
        ),
    )
    new = {bytes.fromhex(row[0]) for row in rows}
    if new:
        _give_rewards(connection, [by_id[one] for one in new])
    before = activated(connection, by_id.keys() - new) if len(new) < len(by_id) else set()
    outcomes: list[Outcome] = []
    for one in activations:
        outcomes.append("activated" if one.decision_id in new else "duplicate" if one.decision_id in before else "late")
        if one.decision_id in new:  # the second of a batch is a repetition
            new.discard(one.decision_id)
            before.add(one.decision_id)
    return outcomes


def _give_rewards(connection: Connection, activations: Sequence[Activation]) -> None:
    times = [one.decided_at_us for one in activations]
    run(
        connection,
        _GIVE,
        (
            array(one.decision_id.hex() for one in activations),
            array(f'"{instant(at)}"' for at in times),
            array(str(one.experiment_id) for one in activations),
            NOBODY,
            instant(min(times)),
            instant(max(times)),
        ),
    )
