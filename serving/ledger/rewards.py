"""Writes rewards: what this module returned for a reward, PostgreSQL has committed.

A batch is in or out as a whole; small ones that come at the same moment share a statement and its
commit (serving.ledger.group_commit). Rows are written in the order of their keys, whoever brings
them, so that no two statements wait for each other. The window is judged by the database's clock in
the statement that writes: a request that dawdled can't slip into a window that has closed.

Nothing is set for longer than a transaction, and nothing is prepared: behind a pooler the next
transaction has another server connection.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import uuid4

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from serving.bounded_connection import BoundedConnection, within

from . import activations, causes, edge_decisions, partitions
from .activations import NOBODY, Activation
from .edge_decisions import EdgeDecision, KnownEdgeDecision
from .group_commit import GroupCommit, NotTold
from .statements import EPOCH, array, instant, run
from .statements import STATEMENT_TIMEOUT_MS as STATEMENT_TIMEOUT_MS

POOL_TIMEOUT_SECONDS = 1.0
HANGS_SECONDS = 2.5
"""A statement that takes longer is one that the server's own limit did not end: it is given up, and
no more threads are given to waiting for it."""
SMALL = 50
"""A batch of more rewards gains nothing by company."""
_SERVERS_OWN = frozenset({"no_connection", "connection", "disk_full", "read_only"})
"""Reasons (serving.ledger.causes) that are the same for whoever tries."""
_QUOTED = re.compile(r'[\\"]')  # in an array's element

MOST_OTHER_METRICS = 16
"""So many metrics a decision has beside those that its experiment names: nobody fills the ledger
with names of his own."""

Outcome = Literal["recorded", "late", "duplicate", "conflict", "too_many"]
_Key = tuple[bytes, str]  # decision, metric
_Written = TypeVar("_Written")


class LedgerUnavailable(Exception):
    """PostgreSQL did not take the rewards: nothing of the call is stored, or it is not known to
    be."""


class NewReward(NamedTuple):
    """One reward to write. `learned` is False for a metric that is not the experiment's reward;
    `named`: those without bound. `waits`: its decision was to be activated."""

    decision_id: bytes
    decided_at_us: int
    experiment_id: int
    arm_id: int
    metric: str
    value: float
    occurred_at: datetime | None
    window_seconds: float
    learned: bool
    named: frozenset[str] = frozenset()
    waits: bool = False


# For a decision of a day that was dropped nothing is kept: it is late, for windows are over long
# before. A conflicting row is updated only where it is a default reward that no late feedback has
# met yet; the update locks and returns nothing for other rows, which are then read.
_INSERT = """
INSERT INTO serving_reward AS held (
    decision_id, decided_at, metric, experiment_id, arm_id, value, occurred_at, recorded_at,
    late, defaulted, folded, matured)
SELECT decision_id, decided_at, metric, experiment_id, arm_id, value, occurred_at, clock_timestamp(),
    clock_timestamp() > decided_at + make_interval(secs => window_seconds), false, NOT learned, false
FROM unnest(
    %s::uuid[], %s::timestamptz[], %s::varchar[], %s::bigint[], %s::bigint[], %s::float8[], %s::timestamptz[],
    %s::float8[], %s::boolean[]
) AS new (decision_id, decided_at, metric, experiment_id, arm_id, value, occurred_at, window_seconds, learned)
WHERE decided_at >= coalesce((SELECT begins_at FROM serving_ledgerhorizon), '-infinity')
ON CONFLICT (decided_at, decision_id, metric) DO UPDATE SET late_value = EXCLUDED.value
    WHERE held.defaulted AND held.late_value IS NULL
RETURNING encode(uuid_send(decision_id), 'hex'), metric, late OR defaulted
"""

# Days outside the bounds are not even planned for: with a year of them that takes longer than all
# the rest.
_READ = """
SELECT encode(uuid_send(decision_id), 'hex'), metric, CASE WHEN defaulted THEN late_value ELSE value END
FROM serving_reward
JOIN unnest(%s::uuid[], %s::timestamptz[], %s::varchar[]) AS asked (decision_id, decided_at, metric)
    USING (decision_id, decided_at, metric)
WHERE decided_at BETWEEN %s::timestamptz AND %s::timestamptz
"""

_METRICS = """
SELECT encode(uuid_send(decision_id), 'hex'), metric FROM serving_reward
JOIN unnest(%s::uuid[], %s::timestamptz[]) AS asked (decision_id, decided_at) USING (decision_id, decided_at)
WHERE decided_at BETWEEN %s::timestamptz AND %s::timestamptz
"""


class RewardWriter:
    """The reward connections of a process; `database` is Django's settings of the database, as it
    is at first use."""

    def __init__(self, database: dict[str, Any], size: int) -> None:
        parameters = {
            "dbname": database["NAME"],
            "user": database["USER"],
            "password": database["PASSWORD"],
            "host": database["HOST"],
            "port": database["PORT"],
            **database["OPTIONS"],
            "connect_timeout": "2",
        }
        self._address = make_conninfo(**{key: value for key, value in parameters.items() if value})
        self._pool = ConnectionPool(
            self._address,
            connection_class=BoundedConnection,
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=0,
            max_size=size,
            timeout=POOL_TIMEOUT_SECONDS,
            reconnect_timeout=5.0,
            open=True,
            name="rewards",
        )

        self._began: dict[int, float] = {}  # by thread: when what it waits for was asked
        self._together: GroupCommit[NewReward, Outcome] = GroupCommit(self._commit, _shared)

    def close(self) -> None:
        self._pool.close(timeout=1.0)

    def write(self, rewards: Sequence[NewReward]) -> list[Outcome]:
        """Write rewards in one transaction; what became of each, in order. Raises
        LedgerUnavailable."""
        self._refuse_while_others_hang()
        # Who brings metrics of its own, or rewards of decisions that wait, takes locks, for which
        # nobody else shall wait.
        if len(rewards) > SMALL or any(reward.waits or reward.metric not in reward.named for reward in rewards):
            return self._commit(rewards)
        try:
            return list(self._together.commit(rewards, HANGS_SECONDS))
        except NotTold as error:
            raise LedgerUnavailable(str(error)) from error

    def _commit(self, rewards: Sequence[NewReward]) -> list[Outcome]:
        """A transaction of its own."""
        first: dict[_Key, int] = {}
        for i, reward in enumerate(rewards):
            first.setdefault(_key(reward), i)
        chosen = {key: rewards[first[key]] for key in sorted(first)}
        others = [rewards[i] for i in first.values() if rewards[i].metric not in rewards[i].named]
        written, refused, held = self._bounded(lambda: self._write(chosen, others))
        return [_outcome(reward, i, first, rewards, written, refused, held) for i, reward in enumerate(rewards)]

    def activate(self, decisions: Sequence[Activation]) -> list[activations.Outcome]:
        """Activate decisions in one transaction; what became of each, in order. Raises
        LedgerUnavailable."""

        def write() -> list[activations.Outcome]:
            with self._pool.connection() as connection, connection.transaction():
                return activations.write(connection, decisions)

        self._refuse_while_others_hang()
        return self._bounded(write)

    def keep_edge_decisions(
        self, decisions: Sequence[EdgeDecision], asked: Iterable[bytes]
    ) -> tuple[set[bytes], Mapping[bytes, KnownEdgeDecision]]:
        """Keep devices' decisions in one transaction (serving.ledger.edge_decisions.write). Raises
        LedgerUnavailable."""

        def write() -> tuple[set[bytes], Mapping[bytes, KnownEdgeDecision]]:
            with self._pool.connection() as connection, connection.transaction():
                return edge_decisions.write(connection, decisions, asked)

        self._refuse_while_others_hang()
        return self._bounded(write)

    def _bounded(self, write: Callable[[], _Written]) -> _Written:
        """What `write` returns, which is a transaction of its own. Raises LedgerUnavailable."""
        thread = threading.get_ident()
        self._began[thread] = time.monotonic()
        try:
            with within(HANGS_SECONDS):
                return partitions.written(write, psycopg.errors.CheckViolation)
        except (psycopg.Error, PoolTimeout) as error:
            raise LedgerUnavailable(str(error)) from error
        finally:
            del self._began[thread]

    def _refuse_while_others_hang(self) -> None:
        """A server that hangs ends no statement by itself, and the threads that wait for it are
        those that answer predict."""
        now = time.monotonic()
        if any(now - began > HANGS_SECONDS for began in tuple(self._began.values())):
            why = f"others have waited for PostgreSQL for more than {HANGS_SECONDS:g} s"
            raise LedgerUnavailable(why) from PoolTimeout(why)

    def _write(
        self, rewards: Mapping[_Key, NewReward], others: Sequence[NewReward]
    ) -> tuple[dict[_Key, bool], set[_Key], dict[_Key, float]]:
        """Those that were new, and whether each came late; those past the bound; what is held in
        place of the rest."""
        waiting = {reward.decision_id for reward in rewards.values() if reward.waits}
        several = bool(others or waiting)
        with self._pool.connection() as connection, connection.transaction() if several else contextlib.nullcontext():
            if waiting:  # all at once, for locks are taken in order
                activations.lock(connection, waiting | {reward.decision_id for reward in others})
                held_back = waiting - activations.activated(connection, waiting)
                rewards = {key: _of_nobody(one) if key[0] in held_back else one for key, one in rewards.items()}
            refused = _past_bound(connection, others) if others else set()
            taken = {key: reward for key, reward in rewards.items() if key not in refused}
            written = _insert(connection, taken)
            return written, refused, _values(connection, {k: reward for k, reward in taken.items() if k not in written})

    def probe(self) -> None:
        """Would a reward be taken now? One is written, and taken back. Raises LedgerUnavailable
        with the cause."""
        now_us = (datetime.now(UTC) - EPOCH) // timedelta(microseconds=1)
        reward = NewReward(uuid4().bytes, now_us, 0, 0, "probe", 0.0, None, 0.0, learned=False)
        try:
            with self._pool.connection() as connection, connection.transaction(force_rollback=True):
                _insert(connection, {_key(reward): reward})
        except PoolTimeout as error:
            raise LedgerUnavailable(self._why_not_connected()) from error
        except psycopg.Error as error:
            raise LedgerUnavailable(str(error)) from error

    def _why_not_connected(self) -> str:
        """The pool tries in the background, and does not say what it met."""
        try:
            BoundedConnection.connect(self._address).close()
        except psycopg.Error as error:
            return str(error)
        return f"none of its connections was free for {POOL_TIMEOUT_SECONDS:g} s"


def _of_nobody(reward: NewReward) -> NewReward:
    """The reward of a decision that is not activated."""
    return reward._replace(experiment_id=NOBODY)


def _shared(error: Exception) -> LedgerUnavailable | None:
    """What each of several that were written together is told, where the fault is nobody's own."""
    if not isinstance(error, LedgerUnavailable) or causes.reason(error.__cause__) not in _SERVERS_OWN:
        return None
    told = LedgerUnavailable(str(error))
    told.__cause__ = error.__cause__
    return told


def _key(reward: NewReward) -> _Key:
    return reward.decision_id, reward.metric


def _times(rewards: Iterable[NewReward]) -> str:
    return array(instant(reward.decided_at_us) for reward in rewards)


def _bounds(rewards: Iterable[NewReward]) -> tuple[str, str]:
    """The first and the last time."""
    times = [reward.decided_at_us for reward in rewards]
    return instant(min(times)), instant(max(times))


def _ids(rewards: Iterable[NewReward]) -> str:
    return array(reward.decision_id.hex() for reward in rewards)


def _metrics(rewards: Sequence[NewReward]) -> str:
    quoted = {reward.metric: _QUOTED.sub(r"\\\g<0>", reward.metric) for reward in rewards}
    return array(f'"{quoted[reward.metric]}"' for reward in rewards)


def _insert(connection: Connection, rewards: Mapping[_Key, NewReward]) -> dict[_Key, bool]:
    """Those that were new, and whether each came late."""
    if not rewards:
        return {}
    new = list(rewards.values())
    columns = (
        _ids(new),
        _times(new),
        _metrics(new),
        array(str(reward.experiment_id) for reward in new),
        array(str(reward.arm_id) for reward in new),
        array(repr(reward.value) for reward in new),
        array("NULL" if reward.occurred_at is None else f'"{reward.occurred_at.isoformat()}"' for reward in new),
        array(repr(reward.window_seconds) for reward in new),
        array("t" if reward.learned else "f" for reward in new),
    )
    return {(bytes.fromhex(row[0]), row[1]): bool(row[2]) for row in run(connection, _INSERT, columns)}


def _values(connection: Connection, rewards: Mapping[_Key, NewReward]) -> dict[_Key, float]:
    """What the ledger holds of rewards that were not new."""
    if not rewards:
        return {}
    new = list(rewards.values())
    asked = (_ids(new), _times(new), _metrics(new), *_bounds(new))
    return {(bytes.fromhex(row[0]), row[1]): row[2] for row in run(connection, _READ, asked)}


def _past_bound(connection: Connection, others: Sequence[NewReward]) -> set[_Key]:
    """Those that would be more than MOST_OTHER_METRICS of their decision. In a transaction, until
    whose end nobody else adds any."""
    activations.lock(connection, [reward.decision_id for reward in others])
    of_decisions = list({reward.decision_id: reward for reward in others}.values())
    held: dict[bytes, set[str]] = {reward.decision_id: set() for reward in of_decisions}
    for decision, metric in run(
        connection, _METRICS, (_ids(of_decisions), _times(of_decisions), *_bounds(of_decisions))
    ):
        held[bytes.fromhex(decision)].add(metric)
    refused: set[_Key] = set()
    for reward in others:
        decision, metric = _key(reward)
        metrics = held[decision]
        if metric not in metrics and len(metrics - reward.named) >= MOST_OTHER_METRICS:
            refused.add((decision, metric))
        else:
            metrics.add(metric)
    return refused


def _outcome(
    reward: NewReward,
    i: int,
    first: dict[_Key, int],
    rewards: Sequence[NewReward],
    written: dict[_Key, bool],
    refused: set[_Key],
    held: dict[_Key, float],
) -> Outcome:
    key = _key(reward)
    if key in written:
        if first[key] == i:
            return "late" if written[key] else "recorded"
        value = rewards[first[key]].value
    elif key in refused:
        return "too_many"
    elif key not in held:
        return "late"  # of a day that was dropped
    else:
        value = held[key]
    return "duplicate" if value == reward.value else "conflict"
