"""What may be a few seconds old is read from a streaming replica of PostgreSQL, where settings name
one: figures that people look at, and nothing that anybody decides by.

Whoever wants that says so around what it reads (`from_replica`). While the replica is away, further
behind than REPLICA_LAG_SECONDS, or no replica any more, the primary is read, and so it is where a
read fails there: a replica ends statements whose rows its primary has taken away.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from serving.bounded_connection import within

from .reads import MARGIN_SECONDS, limit, took_too_long
from .turns import outside_turn

log = structlog.get_logger(__name__)

T = TypeVar("T")

ALIAS = "replica"
_MEASURE_SECONDS = 1.0
"""So often at most a process asks how far it is behind."""
_PAUSE_SECONDS = 10.0
"""After a failure nobody asks it for so long."""
_ANSWER_SECONDS = 2.0
_SAMPLES = 120

# Positions in the log, in bytes.
_WRITTEN = """
SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint END
"""
_REPLAYED = """
SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint,
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
WHERE pg_is_in_recovery()
"""


class Behind(Exception):
    """The replica does not have yet what this read needs."""


@dataclass(frozen=True, slots=True)
class State:
    """`lag_seconds`: what the primary wrote longer ago is there; None where nobody knows.
    `problem`: why it is not read, in words."""

    lag_seconds: float | None
    problem: str | None = None


class _Watch:
    """What a process knows of the replica. It keeps the primary's positions of the last minutes:
    the newest that is replayed tells how old the replica is, whatever its clock says."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._state = State(None, "it was not asked yet")
        self._asked = float("-inf")
        self._paused_until = float("-inf")

    def state(self) -> State:
        """As of a second ago at most. One thread asks; others go by what was known before."""
        now = time.monotonic()
        if now >= self._paused_until and now - self._asked >= _MEASURE_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._state = self._measured()
                self._asked = time.monotonic()
            finally:
                self._lock.release()
        return self._state

    def failed(self, error: BaseException) -> None:
        """A read did not work there: this thread connects anew next time."""
        with suppress(DatabaseError):
            connections[ALIAS].close()
        self._paused_until = time.monotonic() + _PAUSE_SECONDS
        self._state = State(None, _first_line(error))
        log.warning("replica not read", error=self._state.problem)

    def _measured(self) -> State:
        try:
            with within(_ANSWER_SECONDS):
                at = time.monotonic()
                with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
                    cursor.execute(_WRITTEN)
                    written = cursor.fetchone()[0]
                with connections[ALIAS].cursor() as cursor:
                    cursor.execute(_REPLAYED)
                    row = cursor.fetchone()
        except DatabaseError as error:
            self.failed(error)
            return self._state
        if row is None:
            return State(None, "it is no replica: it takes writes of its own")
        if written is None:
            return State(None, "DATABASE_URL names a replica too")
        replayed, age = row
        known = [sampled for sampled, position in self._written if position <= replayed]
        self._written.append((at, written))
        if replayed >= written:
            lag = 0.0
        elif known:
            lag = time.monotonic() - max(known)
        else:  # by its clock, until there are samples that old
            lag = float("inf") if age is None else max(0.0, age)
        if lag > settings.REPLICA_LAG_SECONDS:
            return State(lag, f"it is {lag:,.0f} s behind, more than {settings.REPLICA_LAG_SECONDS:g} s")
        return State(lag)


_watch = _Watch()


class _Mine(threading.local):
    reads_replica = False


_mine = _Mine()


def is_named() -> bool:
    """Do settings name a replica?"""
    return ALIAS in connections.databases


def state() -> State | None:
    """None where settings name none."""
    return _watch.state() if is_named() else None


def where_read() -> BaseDatabaseWrapper:
    """The connection for reads that may be told from a replica: raw statements, as the router does
    for others."""
    return connections[ALIAS if _mine.reads_replica else DEFAULT_DB_ALIAS]


def from_replica(read: Callable[[], T]) -> T:
    """What `read` returns, read from the replica or else from the primary. It may be called twice,
    and returns nothing that is read later."""
    found = state()
    if found is None or found.problem is not None or _mine.reads_replica:
        return read()
    try:
        with _reading():
            return read()
    except (Behind, ObjectDoesNotExist):
        pass
    except DatabaseError as error:
        if took_too_long(error):
            raise
        _watch.failed(error)
    return read()


@contextmanager
def _reading() -> Iterator[None]:
    """One transaction there, whose statements are bounded as others of the control plane."""
    seconds: float = settings.READ_SECONDS
    replica = connections[ALIAS]
    with within(seconds + MARGIN_SECONDS), replica.execute_wrapper(outside_turn), transaction.atomic(using=ALIAS):
        with replica.cursor() as cursor:
            cursor.execute(limit(seconds))
        _mine.reads_replica = True
        try:
            yield
        finally:
            _mine.reads_replica = False


class Router:
    """Of Django's database routers. Who is not inside `from_replica` meets the primary, whatever
    rows it holds."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return ALIAS if _mine.reads_replica else DEFAULT_DB_ALIAS

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return DEFAULT_DB_ALIAS

    def allow_relation(self, first: Any, second: Any, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db != ALIAS


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
