"""What a device remembers, in one SQLite file: the bundle, its units' arms, and the events that are
still to be told. Safe for threads and for several processes; what is committed outlives a crash.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from noregret_client.errors import NoregretError

log = logging.getLogger("noregret_client")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settled (name TEXT PRIMARY KEY, value BLOB);
CREATE TABLE IF NOT EXISTS receipts (id INTEGER PRIMARY KEY, text TEXT UNIQUE NOT NULL, reward BLOB);
CREATE TABLE IF NOT EXISTS units (
    experiment INTEGER, unit TEXT, arm TEXT, propensities TEXT NOT NULL, receipt INTEGER NOT NULL, context TEXT,
    PRIMARY KEY (experiment, unit));
CREATE TABLE IF NOT EXISTS decisions (
    id TEXT PRIMARY KEY, receipt INTEGER NOT NULL, decided_at REAL NOT NULL, waits INTEGER NOT NULL, event BLOB);
CREATE TABLE IF NOT EXISTS rewards (
    decision TEXT NOT NULL, metric TEXT NOT NULL, receipt INTEGER NOT NULL, event BLOB NOT NULL,
    PRIMARY KEY (decision, metric));
"""
_WAIT_SECONDS = 5.0
_ADD_UNIT = "INSERT OR IGNORE INTO units VALUES (?, ?, ?, ?, ?, ?)"
_REPLACE_UNIT = "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?)"
_BATCH_BYTES = 384 * 1024
"""Of a request's events: a receipt may be larger, and the platform takes a mebibyte."""


class KeptArm(NamedTuple):
    """A unit's arm by name, and how it was drawn."""

    arm: str | None
    propensities: list[float]
    receipt: str
    context: dict[str, Any] | None


class Event(NamedTuple):
    """A decision, or a reward, which has a metric; by the decision's id, as JSON."""

    decision: str
    metric: str | None
    body: msgspec.Raw


class Batch(NamedTuple):
    """Events of one receipt, decisions before rewards."""

    receipt: str
    events: list[Event]


class StateDamaged(NoregretError):
    """The device's file was damaged while it was in use. A new one is begun: refresh."""


class State:
    """In `path`. At most `limit` decisions are kept that are not told yet, and as many units."""

    def __init__(self, path: Path, limit: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        try:
            self._connection = _opened(path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _set_aside(path, error)
            self._connection = _opened(path)
        self._number = _number_of(path)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        """Raises StateDamaged where the file is found to be none, and begins a new one."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._connection.close()
                if _number_of(self._path) == self._number:  # else another process has begun a new one
                    _set_aside(self._path, error)
                self._connection = _opened(self._path)
                self._number = _number_of(self._path)
                raise StateDamaged(f"the device's file was damaged, and a new one is begun: {error}") from error

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._held() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have ended it
                    connection.execute("ROLLBACK")
                raise

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._held() as connection:
            return connection.execute(statement, values).fetchall()

    def get(self, name: str) -> bytes | None:
        rows = self._rows("SELECT value FROM settled WHERE name = ?", name)
        return None if not rows else bytes(rows[0][0])

    def put(self, values: dict[str, bytes]) -> None:
        with self._change() as connection:
            connection.executemany("INSERT OR REPLACE INTO settled VALUES (?, ?)", list(values.items()))

    def kept_arm(self, experiment: int, unit: str) -> KeptArm | None:
        rows = self._rows(
            "SELECT arm, propensities, text, context FROM units JOIN receipts ON receipts.id = receipt "
            "WHERE experiment = ? AND unit = ?",
            experiment,
            unit,
        )
        if not rows:
            return None
        arm, propensities, receipt, context = rows[0]
        return KeptArm(
            arm,
            msgspec.json.decode(propensities, type=list[float]),
            receipt,
            None if context is None else msgspec.json.decode(context),
        )

    def keep_arm(self, experiment: int, unit: str, kept: KeptArm, *, instead: bool = False) -> None:
        """Of another process that was first the arm stays, unless this one is to be there
        `instead`. Units of earlier experiments, and the oldest past the limit, are dropped."""
        with self._change() as connection:
            connection.execute(
                _REPLACE_UNIT if instead else _ADD_UNIT,
                (
                    experiment,
                    unit,
                    kept.arm,
                    msgspec.json.encode(kept.propensities).decode(),
                    _receipt(connection, kept.receipt),
                    None if kept.context is None else msgspec.json.encode(kept.context).decode(),
                ),
            )
            connection.execute("DELETE FROM units WHERE experiment <> ?", (experiment,))
            connection.execute("DELETE FROM units WHERE rowid <= (SELECT max(rowid) FROM units) - ?", (self._limit,))

    def add_decision(self, identity: str, receipt: str, decided_at: float, event: bytes, reward: bytes) -> bool:
        """`reward` says what its rewards must be, of all decisions under the receipt. False where
        as many wait as may."""
        with self._change() as connection:
            (waiting,) = connection.execute("SELECT count(*) FROM decisions WHERE waits").fetchone()
            if waiting >= self._limit:
                return False
            connection.execute(
                "INSERT INTO decisions VALUES (?, ?, ?, 1, ?)",
                (identity, _receipt(connection, receipt, reward), decided_at, event),
            )
        return True

    def add_reward(self, decision: str, metric: str, event: bytes) -> bool:
        """False where the decision is not known here, or this metric was told before."""
        with self._change() as connection:
            rows = connection.execute("SELECT receipt FROM decisions WHERE id = ?", (decision,)).fetchall()
            if not rows:
                return False
            cursor = connection.execute(
                "INSERT OR IGNORE INTO rewards VALUES (?, ?, ?, ?)", (decision, metric, rows[0][0], event)
            )
            return cursor.rowcount == 1

    def reward_of(self, decision: str) -> tuple[bool, bytes | None]:
        """Is the decision known here, and what its rewards must be, as far as that is known."""
        rows = self._rows(
            "SELECT reward FROM decisions JOIN receipts ON receipts.id = receipt WHERE decisions.id = ?", decision
        )
        return bool(rows), rows[0][0] if rows else None

    def batch(self, most: int) -> Batch | None:
        """The oldest receipt's events, at most so many; None where all are told. A reward comes
        with or after its decision."""
        rows = self._rows(
            "SELECT receipt, min(at) FROM (SELECT receipt, rowid AS at FROM decisions WHERE waits "
            "UNION ALL SELECT receipt, rowid FROM rewards) GROUP BY receipt ORDER BY 1 LIMIT 1"
        )
        if not rows:
            return None
        receipt = rows[0][0]
        events: list[tuple[str, str | None, bytes]] = [
            (identity, None, event)
            for identity, event in self._rows(
                "SELECT id, event FROM decisions WHERE waits AND receipt = ? ORDER BY rowid LIMIT ?", receipt, most
            )
        ]
        if len(events) < most:
            events += self._rows(
                "SELECT decision, metric, event FROM rewards WHERE receipt = ? ORDER BY rowid LIMIT ?",
                receipt,
                most - len(events),
            )
        sizes = accumulate(len(event) for _, _, event in events)
        events = events[: max(sum(size <= _BATCH_BYTES for size in sizes), 1)]
        text = self._rows("SELECT text FROM receipts WHERE id = ?", receipt)[0][0]
        return Batch(text, [Event(identity, metric, msgspec.Raw(bytes(event))) for identity, metric, event in events])

    def told(self, events: list[Event]) -> None:
        """These need not be told again. A decision is remembered for its rewards."""
        with self._change() as connection:
            connection.executemany(
                "UPDATE decisions SET waits = 0, event = NULL WHERE id = ?",
                [(event.decision,) for event in events if event.metric is None],
            )
            connection.executemany(
                "DELETE FROM rewards WHERE decision = ? AND metric = ?",
                [(event.decision, event.metric) for event in events if event.metric is not None],
            )

    def forget_before(self, decided_at: float) -> None:
        """Decisions that were told and are older get no rewards any more; receipts that nothing
        names are dropped."""
        with self._change() as connection:
            connection.execute(
                "DELETE FROM decisions WHERE NOT waits AND decided_at < ? AND id NOT IN (SELECT decision FROM rewards)",
                (decided_at,),
            )
            connection.execute(
                "DELETE FROM receipts WHERE id NOT IN (SELECT receipt FROM units "
                "UNION SELECT receipt FROM decisions UNION SELECT receipt FROM rewards)"
            )

    def waiting(self) -> int:
        """Events that are still to be told."""
        rows = self._rows("SELECT (SELECT count(*) FROM decisions WHERE waits) + (SELECT count(*) FROM rewards)")
        return int(rows[0][0])


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        if "reward" not in {row[1] for row in connection.execute("PRAGMA table_info(receipts)")}:
            with suppress(sqlite3.OperationalError):  # another process was first
                connection.execute("ALTER TABLE receipts ADD COLUMN reward BLOB")
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError(str(sound))
    except BaseException:
        connection.close()
        raise
    return connection


def _number_of(path: Path) -> int | None:
    """Which file it is; None where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Is the file none, or not whole? What is locked, full or not to be written raises a kind of
    its own."""
    return type(error) is sqlite3.DatabaseError


def _set_aside(path: Path, error: sqlite3.DatabaseError) -> None:
    """The file stays beside, for who wants to look; what it held is lost to the platform."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    log.error("%s is damaged (%s): it is set aside as %s, and a new one is begun", path, error, aside.name)
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):  # another process was first
            Path(f"{path}{ending}").rename(f"{aside}{ending}")


def _receipt(connection: sqlite3.Connection, text: str, reward: bytes | None = None) -> int:
    connection.execute(
        "INSERT INTO receipts (text, reward) VALUES (?, ?) "
        "ON CONFLICT (text) DO UPDATE SET reward = excluded.reward WHERE reward IS NULL",
        (text, reward),
    )
    return int(connection.execute("SELECT id FROM receipts WHERE text = ?", (text,)).fetchone()[0])
