"""Writes rewards: what this module returned for a reward, PostgreSQL has committed.

One statement a call, in a transaction of its own, so that a batch is in or out as a whole. The window is judged by the
database's clock in the statement that writes: a request that dawdled can't slip into a window that has closed.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

STATEMENT_TIMEOUT_MS = 2000
POOL_TIMEOUT_SECONDS = 1.0
DAYS_MADE = 8
"""So many days may get their partition, one after another, while rows of them wait at the default one: written again, they find it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Outcome = Literal["recorded", "late", "duplicate", "conflict"]


class LedgerUnavailable(Exception):
    """PostgreSQL did not take the rewards: nothing of the call is stored, or it is not known to be."""


@dataclass(frozen=True, slots=True)
class NewReward:
    """One reward to write. `learned` is False for a metric that is not the experiment's reward."""

    decision_id: bytes
    decided_at_us: int
    experiment_id: int
    arm_id: int
    metric: str
    value: float
    occurred_at: datetime | None
    window_seconds: float
    learned: bool


# For a decision of a day that was dropped nothing is kept: it is late, for windows are over long before.
# A conflicting row is updated only where it is a default reward that no late feedback has met yet; the update
# locks and returns nothing for other rows, which are then read.
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
RETURNING decision_id, metric, late OR defaulted
"""

_READ = """
SELECT decision_id, metric, CASE WHEN defaulted THEN late_value ELSE value END
FROM serving_reward
JOIN unnest(%s::uuid[], %s::timestamptz[], %s::varchar[]) AS asked (decision_id, decided_at, metric)
    USING (decision_id, decided_at, metric)
"""


class RewardWriter:
    """The reward connections of a process; `database` is Django's settings of the database, as it is at first use."""

    def __init__(self, database: dict[str, Any], size: int) -> None:
        parameters = {
            "dbname": database["NAME"],
            "user": database["USER"],
            "password": database["PASSWORD"],
            "host": database["HOST"],
            "port": database["PORT"],
            **database["OPTIONS"],
            "connect_timeout": "2",
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
        }
        self._pool = ConnectionPool(
            make_conninfo(**{key: value for key, value in parameters.items() if value}),
            kwargs={"autocommit": True},
            min_size=0,
            max_size=size,
            timeout=POOL_TIMEOUT_SECONDS,
            reconnect_timeout=5.0,
            open=True,
            name="rewards",
        )

    def close(self) -> None:
        self._pool.close(timeout=1.0)

    def write(self, rewards: Sequence[NewReward]) -> list[Outcome]:
        """Write rewards in one transaction; what became of each, in order. Raises LedgerUnavailable."""
        first: dict[tuple[UUID, str], int] = {}
        for i, reward in enumerate(rewards):
            first.setdefault((UUID(bytes=reward.decision_id), reward.metric), i)
        keys = list(first)
        chosen = [rewards[i] for i in first.values()]
        times = [_EPOCH + timedelta(microseconds=reward.decided_at_us) for reward in chosen]
        columns = (
            [key[0] for key in keys],
            times,
            [key[1] for key in keys],
            [reward.experiment_id for reward in chosen],
            [reward.arm_id for reward in chosen],
            [reward.value for reward in chosen],
            [reward.occurred_at for reward in chosen],
            [reward.window_seconds for reward in chosen],
            [reward.learned for reward in chosen],
        )
        try:
            with self._pool.connection() as connection:
                rows = self._inserted(connection, columns)
                written = {(row[0], row[1]): bool(row[2]) for row in rows}
                held: dict[tuple[UUID, str], float] = {}
                if len(written) < len(keys):
                    missing = [i for i, key in enumerate(keys) if key not in written]
                    asked = ([keys[i][0] for i in missing], [times[i] for i in missing], [keys[i][1] for i in missing])
                    held = {(row[0], row[1]): row[2] for row in connection.execute(_READ, asked).fetchall()}
        except (psycopg.Error, PoolTimeout) as error:
            raise LedgerUnavailable(str(error)) from error
        return [_outcome(reward, i, first, rewards, written, held) for i, reward in enumerate(rewards)]

    def _inserted(self, connection: psycopg.Connection[Any], columns: tuple[Any, ...]) -> list[Any]:
        for _ in range(DAYS_MADE):
            with contextlib.suppress(psycopg.errors.CheckViolation):
                return connection.execute(_INSERT, columns, prepare=True).fetchall()
        return connection.execute(_INSERT, columns, prepare=True).fetchall()


def _outcome(
    reward: NewReward,
    i: int,
    first: dict[tuple[UUID, str], int],
    rewards: Sequence[NewReward],
    written: dict[tuple[UUID, str], bool],
    held: dict[tuple[UUID, str], float],
) -> Outcome:
    key = (UUID(bytes=reward.decision_id), reward.metric)
    if key in written:
        if first[key] == i:
            return "late" if written[key] else "recorded"
        value = rewards[first[key]].value
    else:
        if key not in held:
            return "late"  # of a day that was dropped
        value = held[key]
    return "duplicate" if value == reward.value else "conflict"
