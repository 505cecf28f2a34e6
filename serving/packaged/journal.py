"""A package's own log: its decisions and rewards until they are uploaded, and the arms that units
keep.

One SQLite file an endpoint, which all processes of the user share and a newer wheel goes on with.
It is bounded by the number of decisions that wait and by its bytes; past either, decisions are
answered and not kept. Each entry is one transaction in a write-ahead log: a process that is killed
loses none that it was answered, and spoils none of another's. `synchronous=NORMAL`: the disk is
asked to hold what was written at checkpoints, every thousand pages, and not at every decision; a
machine that loses its power may lose the last ones, and never the file.

Files of our own were rejected: locks between processes, torn tails and an index by decision are
what SQLite is for, and the standard library has it.
"""

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from serving.assignment import Assignment

log = logging.getLogger(__name__)

MOST_DECISIONS = 100_000
MOST_BYTES = 64 << 20
_FILE = "log.sqlite3"
_PAGE = 4096
_LEAST_PAGES = 64
_WAIT_SECONDS = 1.0
"""So long an entry waits for another process's, which takes a fraction of a millisecond."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS receipt (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS decision (
    id TEXT PRIMARY KEY, receipt INTEGER NOT NULL, event TEXT, learnable INTEGER NOT NULL, decided_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS waiting ON decision (receipt) WHERE event IS NOT NULL;
CREATE INDEX IF NOT EXISTS uploaded ON decision (decided_at) WHERE event IS NULL;
CREATE TABLE IF NOT EXISTS reward (
    decision_id TEXT NOT NULL, metric TEXT NOT NULL, value TEXT NOT NULL, event TEXT, PRIMARY KEY (decision_id, metric));
CREATE INDEX IF NOT EXISTS unsent ON reward (decision_id) WHERE event IS NOT NULL;
CREATE TABLE IF NOT EXISTS kept (
    experiment INTEGER NOT NULL, unit TEXT NOT NULL, arm INTEGER NOT NULL, propensities TEXT NOT NULL,
    receipt INTEGER, context TEXT, PRIMARY KEY (experiment, unit));
CREATE TABLE IF NOT EXISTS size (waiting INTEGER NOT NULL);
INSERT INTO size SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM size);
CREATE TRIGGER IF NOT EXISTS counted AFTER INSERT ON decision BEGIN UPDATE size SET waiting = waiting + 1; END;
CREATE TRIGGER IF NOT EXISTS sent AFTER UPDATE OF event ON decision WHEN OLD.event IS NOT NULL AND NEW.event IS NULL
    BEGIN UPDATE size SET waiting = waiting - 1; END;
CREATE TRIGGER IF NOT EXISTS dropped AFTER DELETE ON decision WHEN OLD.event IS NOT NULL
    BEGIN UPDATE size SET waiting = waiting - 1; END;
"""


class LogUnavailable(Exception):
    """The log took nothing: it is full, on a disk that can't be written, or held by another for
    too long."""


class KeptArm(NamedTuple):
    """A unit's arm, and by which receipt and context it was drawn."""

    assignment: Assignment
    receipt: str | None
    context: dict[str, Any] | None


class Logged(NamedTuple):
    """What the log knows of a decision."""

    learnable: bool
    decided_at: float  # Unix time, seconds


class Event(NamedTuple):
    """A decision, or a reward, which has a metric; by the decision's id, as JSON."""

    id: str
    metric: str | None
    body: str


class Waiting(NamedTuple):
    """Events of one receipt that wait for their upload, decisions before rewards."""

    receipt: str
    events: list[Event]


class Journal:
    """Of one endpoint, for any number of threads and processes. Every method raises
    LogUnavailable."""

    def __init__(self, folder: Path, most_decisions: int = MOST_DECISIONS, most_bytes: int = MOST_BYTES) -> None:
        self._path = folder / _FILE
        self._most_decisions = most_decisions
        self._pages = max(most_bytes // _PAGE, _LEAST_PAGES)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = os.getpid()
        self._inode = 0  # of the file that is open
        self._parents: list[sqlite3.Connection] = []
        self._receipts: dict[str, int] = {}

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        if self._owner != os.getpid():
            self._begin_anew()
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connected()
                self._connection.execute(begin)
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:  # a full disk may have ended it
                        self._connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                if type(error) is sqlite3.DatabaseError:  # of its kinds the one that says: no database, or not whole
                    self._set_aside(error)
                raise LogUnavailable(str(error)) from error

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """The next entry begins a new file; the damaged one stays beside, for who wants to look."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._receipts = None, {}
        try:
            if self._path.stat().st_ino != self._inode:  # another process has begun a new one
                return
            aside = self._path.with_name(f"{_FILE}.damaged-{time.time_ns()}")
            log.error(
                "%s is damaged (%s): it is set aside as %s, and a new one is begun", self._path, error, aside.name
            )
            for ending in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.rename(f"{self._path}{ending}", f"{aside}{ending}")
        except OSError as refused:
            log.error("%s is damaged, and can't be set aside: %s", self._path, refused)

    def _begin_anew(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here, and the connection
        is its parent's, which SQLite wants neither used nor closed."""
        self._lock, self._owner, self._receipts = threading.Lock(), os.getpid(), {}
        if self._connection is not None:
            self._parents.append(self._connection)
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._inode = self._path.stat().st_ino
            _begin_write_ahead(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA max_page_count = {self._pages}")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = 1; COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Harmless twice; the next entry opens it again."""
        if self._owner != os.getpid():
            self._begin_anew()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # Decisions and rewards in.

    def add_decision(self, id_: str, receipt: str, event: str, *, learnable: bool, at: float) -> None:
        """Keep a decision of a Unix time, with its event as JSON."""
        number = self._number(receipt)
        with self._transaction() as connection:
            (waiting,) = connection.execute("SELECT waiting FROM size").fetchone()
            if waiting >= self._most_decisions:
                raise LogUnavailable(f"{waiting} decisions wait already: upload them")
            connection.execute("INSERT INTO decision VALUES (?, ?, ?, ?, ?)", (id_, number, event, learnable, at))

    def _number(self, receipt: str) -> int:
        """Of a receipt, whose text may be long."""
        number = self._receipts.get(receipt)
        if number is None:
            with self._transaction() as connection:
                connection.execute("INSERT INTO receipt (text) VALUES (?) ON CONFLICT DO NOTHING", (receipt,))
                row = connection.execute("SELECT number FROM receipt WHERE text = ?", (receipt,)).fetchone()
            number = self._receipts[receipt] = int(row[0])
        return number

    def decision(self, id_: str) -> Logged | None:
        with self._transaction("BEGIN") as connection:
            row = connection.execute("SELECT learnable, decided_at FROM decision WHERE id = ?", (id_,)).fetchone()
        return None if row is None else Logged(bool(row[0]), row[1])

    def add_reward(self, decision_id: str, metric: str, value: str, event: str) -> str | None:
        """Keep a reward; None, or the value that the decision has had for this metric before."""
        with self._transaction() as connection:
            key = (decision_id, metric)
            row = connection.execute("SELECT value FROM reward WHERE decision_id = ? AND metric = ?", key).fetchone()
            if row is not None:
                return str(row[0])
            connection.execute("INSERT INTO reward VALUES (?, ?, ?, ?)", (*key, value, event))
        return None

    # Out: a batch is read, sent, and then settled.

    def waiting(self) -> tuple[int, int]:
        """How many decisions and rewards wait for their upload."""
        with self._transaction("BEGIN") as connection:
            (decisions,) = connection.execute("SELECT waiting FROM size").fetchone()
            (rewards,) = connection.execute("SELECT count(*) FROM reward WHERE event IS NOT NULL").fetchone()
        return decisions, rewards

    def batch(self, most: int, most_bytes: int) -> Waiting | None:
        """At most so many events of one receipt, oldest first, each decision with its rewards as
        far as there is room; None when nothing waits."""
        with self._transaction("BEGIN") as connection:
            first = (
                connection.execute(
                    "SELECT receipt FROM decision WHERE event IS NOT NULL ORDER BY rowid LIMIT 1"
                ).fetchone()
                or connection.execute(
                    "SELECT decision.receipt FROM reward JOIN decision ON decision.id = decision_id "
                    "WHERE reward.event IS NOT NULL LIMIT 1"
                ).fetchone()
            )
            if first is None:
                return None
            (text,) = connection.execute("SELECT text FROM receipt WHERE number = ?", first).fetchone()
            decisions = connection.execute(
                "SELECT id, event FROM decision WHERE event IS NOT NULL AND receipt = ? ORDER BY rowid LIMIT ?",
                (*first, most),
            ).fetchall()
            decisions = _within(decisions, most_bytes // 2)
            ids = {id_ for id_, _ in decisions}
            # Of decisions that go now, or went before.
            rewards = [
                (id_, metric, event)
                for id_, metric, event, is_sent in connection.execute(
                    "SELECT decision_id, metric, reward.event, decision.event IS NULL FROM reward "
                    "JOIN decision ON decision.id = decision_id WHERE reward.event IS NOT NULL AND receipt = ? "
                    "ORDER BY decision.rowid LIMIT ?",
                    (*first, most),
                )
                if is_sent or id_ in ids
            ]
        rewards = _within(rewards[: most - len(decisions)], most_bytes // 2)
        return Waiting(text, [Event(id_, None, event) for id_, event in decisions] + [Event(*each) for each in rewards])

    def settle(self, sent: Sequence[str], rewards: Sequence[tuple[str, str]], dropped: Sequence[Event]) -> None:
        """What became of a batch: decisions that the platform has, by id, rewards (decision's id,
        metric) that are its own now, and what it refuses, which is dropped: another value can be
        given in place of such a reward."""
        with self._transaction() as connection:
            connection.executemany("UPDATE decision SET event = NULL WHERE id = ?", [(id_,) for id_ in sent])
            connection.executemany("UPDATE reward SET event = NULL WHERE decision_id = ? AND metric = ?", rewards)
            for id_, metric, _ in dropped:
                if metric is None:
                    connection.execute("DELETE FROM decision WHERE id = ?", (id_,))
                connection.execute(
                    "DELETE FROM reward WHERE decision_id = ? AND coalesce(metric = ?, true)", (id_, metric)
                )

    def forget_uploaded(self, before: float) -> None:
        """Forget what was uploaded of decisions made before a Unix time: no feedback is expected on
        them any more."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM reward WHERE decision_id IN (SELECT id FROM decision WHERE event IS NULL AND decided_at < ?)",
                (before,),
            )
            connection.execute("DELETE FROM decision WHERE event IS NULL AND decided_at < ?", (before,))

    # Arms that units keep.

    def kept(self, experiment_id: int, unit: str) -> KeptArm | None:
        with self._transaction("BEGIN") as connection:
            row = connection.execute(
                "SELECT arm, propensities, receipt.text, context FROM kept LEFT JOIN receipt ON receipt.number = receipt "
                "WHERE experiment = ? AND unit = ?",
                (experiment_id, unit),
            ).fetchone()
        if row is None:
            return None
        context = None if row[3] is None else json.loads(row[3])
        return KeptArm(Assignment(row[0], json.loads(row[1])), row[2], context)

    def keep(self, experiment_id: int, unit: str, arm: KeptArm, instead_of: int | None) -> KeptArm:
        """Keep an arm for a unit that has none, or whose arm is still `instead_of` (by id); what it
        has then."""
        context = None if arm.context is None else json.dumps(arm.context)
        number = None if arm.receipt is None else self._number(arm.receipt)
        with self._transaction() as connection:
            written = connection.execute(
                "INSERT INTO kept VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (experiment, unit) DO UPDATE SET arm = excluded.arm, "
                "propensities = excluded.propensities, receipt = excluded.receipt, context = excluded.context "
                "WHERE arm = ?",
                (
                    experiment_id,
                    unit,
                    arm.assignment.arm_id,
                    json.dumps(arm.assignment.propensities),
                    number,
                    context,
                    instead_of,
                ),
            ).rowcount
        return arm if written else self.kept(experiment_id, unit) or arm


def _begin_write_ahead(connection: sqlite3.Connection) -> None:
    """Where another process does so at this moment, SQLite does not wait by itself."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _within(events: list[Any], most_bytes: int) -> list[Any]:
    """As many events, whose JSON comes last, as fit, and at least one."""
    total = 0
    for place, event in enumerate(events):
        total += len(event[-1].encode()) + 1
        if total > most_bytes and place:
            return events[:place]
    return events
