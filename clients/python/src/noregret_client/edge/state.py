"""What a device remembers, in one SQLite file: the bundle, its units' arms, and the events that are
still to be told. Safe for threads and for several processes; what is committed outlives a crash.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from noregret_client.errors import NoregretError

from .bundle import Reward

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
_UNKNOWN = "unknown"
_UNKNOWN_WINDOW_SECONDS = 604_800.0
"""Where a bundle names no reward, or an older version did not keep what it named."""


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


@dataclass(frozen=True, slots=True)
class Passed:
    """What an upload passes over, for others to be told: decisions with their rewards by id, and
    receipts with all their events."""

    decisions: set[str] = field(default_factory=set)
    receipts: set[str] = field(default_factory=set)

    def texts(self) -> tuple[str, str]:
        """Both as JSON."""
        return msgspec.json.encode(self.decisions).decode(), msgspec.json.encode(self.receipts).decode()


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
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with self._held() as connection:
            connection.execute(begin)
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
        with self._transaction() as connection:
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
        with self._transaction() as connection:
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
        with self._transaction() as connection:
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
        with self._transaction() as connection:
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

    def batch(self, most: int, passed: Passed) -> Batch | None:
        """The oldest receipt's events that are not passed over, at most so many; None where there
        are none. All is read in one snapshot, so that a reward comes with or after its decision
        whatever others commit meanwhile."""
        decisions, receipts = passed.texts()
        with self._transaction("BEGIN") as connection:
            row = connection.execute(
                "SELECT receipt, text, min(at) FROM (SELECT id AS decision, receipt, rowid AS at FROM decisions "
                "WHERE waits UNION ALL SELECT decision, receipt, rowid FROM rewards) "
                "JOIN receipts ON receipts.id = receipt WHERE decision NOT IN (SELECT value FROM json_each(?)) "
                "AND text NOT IN (SELECT value FROM json_each(?)) GROUP BY receipt ORDER BY 3 LIMIT 1",
                (decisions, receipts),
            ).fetchone()
            if row is None:
                return None
            receipt, text, _ = row
            events: list[tuple[str, str | None, bytes]] = connection.execute(
                "SELECT id, NULL, event FROM decisions WHERE waits AND receipt = ? "
                "AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY rowid LIMIT ?",
                (receipt, decisions, most),
            ).fetchall()
            if len(events) < most:  # no other decision of the receipt waits
                events += connection.execute(
                    "SELECT decision, metric, event FROM rewards WHERE receipt = ? "
                    "AND decision NOT IN (SELECT value FROM json_each(?)) ORDER BY rowid LIMIT ?",
                    (receipt, decisions, most - len(events)),
                ).fetchall()
        sizes = accumulate(len(event) for _, _, event in events)
        events = events[: max(sum(size <= _BATCH_BYTES for size in sizes), 1)]
        return Batch(text, [Event(identity, metric, msgspec.Raw(bytes(event))) for identity, metric, event in events])

    def told(self, heard: Sequence[tuple[Event, str]]) -> None:
        """These need not be told again, by what became of them. A decision is remembered for its
        rewards; a reward is `unknown` for good only where its decision does not wait here."""
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE decisions SET waits = 0, event = NULL WHERE id = ?",
                [(event.decision,) for event, _ in heard if event.metric is None],
            )
            connection.executemany(
                "DELETE FROM rewards WHERE decision = ? AND metric = ? "
                "AND NOT (? AND EXISTS (SELECT 1 FROM decisions WHERE id = decision AND waits))",
                [
                    (event.decision, event.metric, status == _UNKNOWN)
                    for event, status in heard
                    if event.metric is not None
                ],
            )

    def forget(self, now: float) -> None:
        """Decisions that were told, and whose own window is over at a Unix time, get no rewards any
        more; receipts that nothing names are dropped."""
        with self._transaction() as connection:
            for receipt, reward in connection.execute("SELECT id, reward FROM receipts").fetchall():
                connection.execute(
                    "DELETE FROM decisions WHERE receipt = ? AND NOT waits AND decided_at < ? "
                    "AND id NOT IN (SELECT decision FROM rewards)",
                    (receipt, now - _window_seconds(reward)),
                )
            connection.execute(
                "DELETE FROM receipts WHERE id NOT IN (SELECT receipt FROM units "
                "UNION SELECT receipt FROM decisions UNION SELECT receipt FROM rewards)"
            )

    def waiting(self) -> int:
        """Events that are still to be told."""
        rows = self._rows("SELECT (SELECT count(*) FROM decisions WHERE waits) + (SELECT count(*) FROM rewards)")
        return int(rows[0][0])


def _window_seconds(reward: bytes | None) -> float:
    """Within which rewards of a decision count, as its bundle says."""
    rules = None if reward is None else msgspec.json.decode(reward, type=Reward | None)
    return _UNKNOWN_WINDOW_SECONDS if rules is None else rules.window_seconds


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
