"""Keeps decisions that were made on devices: each once, by the id that its device gave it. What
this module returned for one, PostgreSQL has committed, and the learner takes it into the ledger.

Nothing is read to find out whether a decision is known: its row is written unless there is one, and
then that one is read. So of two requests that bring the same decision one writes it.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from psycopg import Connection

from .statements import array, run

BESIDE = 2**62
"""Added to the number of an experiment whose evidence a device's decision is left out of: such
decisions are in the ledger under a number of their own, which no sum asks for."""


def experiment_of(number: int) -> int:
    """The experiment that a decision belongs to whose number in the ledger this is."""
    return number - BESIDE if number >= BESIDE else number


class EdgeDecision(NamedTuple):
    """One to keep. `id` is the device's and `ledger_id` the ledger's, 16 bytes each; `digest` is of
    what the device says."""

    id: bytes
    endpoint_id: int
    experiment_id: int
    arm_id: int
    ledger_id: bytes
    decided_us: int
    learnable: bool
    digest: bytes
    kept_until_us: int
    event: bytes
    unit: str | None


class KnownEdgeDecision(NamedTuple):
    """One that is kept."""

    endpoint_id: int
    experiment_id: int
    arm_id: int
    ledger_id: bytes
    decided_us: int
    learnable: bool
    digest: bytes


# In the order of their ids, whoever brings them, so that no two statements wait for each other.
_INSERT = """
INSERT INTO serving_edgedecision (
    id, endpoint_id, experiment_id, arm_id, ledger_id, decided_us, learnable, digest, kept_until, event, unit)
SELECT id, endpoint_id, experiment_id, arm_id, ledger_id, decided_us, learnable, decode(digest, 'hex'),
    to_timestamp(kept_until_us / 1e6), decode(event, 'hex'), convert_from(decode(unit, 'hex'), 'UTF8')
FROM unnest(
    %s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::uuid[], %s::bigint[], %s::boolean[], %s::text[],
    %s::bigint[], %s::text[], %s::text[]
) AS new (
    id, endpoint_id, experiment_id, arm_id, ledger_id, decided_us, learnable, digest, kept_until_us, event, unit)
ORDER BY id
ON CONFLICT (id) DO NOTHING
RETURNING encode(uuid_send(id), 'hex')
"""
_READ = """
SELECT encode(uuid_send(id), 'hex'), endpoint_id, experiment_id, arm_id, encode(uuid_send(ledger_id), 'hex'),
    decided_us, learnable, encode(digest, 'hex')
FROM serving_edgedecision WHERE id = ANY(%s::uuid[])
"""


def write(
    connection: Connection, decisions: Iterable[EdgeDecision], asked: Iterable[bytes] = ()
) -> tuple[set[bytes], Mapping[bytes, KnownEdgeDecision]]:
    """Keep decisions, no two of one id, in the caller's transaction. The ids of those that were
    new; and by id what is kept of all of them and of those `asked` for."""
    new = list(decisions)
    written: set[bytes] = set()
    if new:
        columns = (
            array(one.id.hex() for one in new),
            array(str(one.endpoint_id) for one in new),
            array(str(one.experiment_id) for one in new),
            array(str(one.arm_id) for one in new),
            array(one.ledger_id.hex() for one in new),
            array(str(one.decided_us) for one in new),
            array("t" if one.learnable else "f" for one in new),
            array(one.digest.hex() for one in new),
            array(str(one.kept_until_us) for one in new),
            array(one.event.hex() for one in new),
            # Quoted: of an empty text nothing would be left.
            array("NULL" if one.unit is None else f'"{one.unit.encode().hex()}"' for one in new),
        )
        written = {bytes.fromhex(row[0]) for row in run(connection, _INSERT, columns)}
    ids = {one.id for one in new} | set(asked)
    if not ids:
        return written, {}
    rows = run(connection, _READ, (array(sorted(identity.hex() for identity in ids)),))
    known = {
        bytes.fromhex(row[0]): KnownEdgeDecision(
            row[1], row[2], row[3], bytes.fromhex(row[4]), row[5], row[6], bytes.fromhex(row[7])
        )
        for row in rows
    }
    return written, known
