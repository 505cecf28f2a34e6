"""Calls that wait at the same moment are written together: one statement and one commit for all.

A commit costs the same for one row and for fifty, so what calls pay is shared by those that are
there. The first call that comes is the leader: it writes its own rows and those of every call that
waits, and the others are told when it has committed. What is written, and where, never enters this
module.

- A call that is alone waits for nobody. Where the last group had company, the leader gives the same
  number of calls a moment to come back, no longer than the commit that they would cost.
- A leader that is slow (a lock, a full disk) holds up nobody for longer than PATIENCE_SECONDS: the
  next call leads a group of its own, on a connection of its own.
- One call's bad value harms no other: where a group fails, each of its calls writes by itself, in
  its own thread, unless the failure is the server's.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")
Outcome = TypeVar("Outcome")

MOST_ROWS = 500
"""Of a group: it ends well within a statement's timeout."""
PATIENCE_SECONDS = 0.05
GATHER_SECONDS = 0.005
"""The longest that a leader waits for calls to come back."""


class NotTold(Exception):
    """The leader did not come back in time: whether the call's rows are stored is not known."""


class _Call(Generic[Row, Outcome]):
    """One call's rows, and what becomes of them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        # Released once, after all else is set, for a call that waits: a bare lock, for an Event
        # takes several times as long.
        self.told = threading.Lock()
        self.told.acquire()
        self.leads = False
        self.outcomes: Sequence[Outcome] | None = None
        self.error: Exception | None = None


class GroupCommit(Generic[Row, Outcome]):
    """`write` commits rows in one transaction, and returns what became of each, in order.

    `shared` is asked about an error of a group: what another of its calls raises for it, or None
    where each call had better write by itself.
    """

    def __init__(
        self, write: Callable[[Sequence[Row]], Sequence[Outcome]], shared: Callable[[Exception], Exception | None]
    ) -> None:
        self._write = write
        self._shared = shared
        self._lock = threading.Lock()
        self._waiting: deque[_Call[Row, Outcome]] = deque()
        self._leader: _Call[Row, Outcome] | None = None  # who will write what waits
        self._leads_since = 0.0
        self._complete = threading.Event()  # as many calls wait as the leader hopes for
        # Of the last group: calls that were in it or waited when it ended, when it ended, and how
        # long its commit took, in seconds.
        self._calls = 1
        self._ended = 0.0
        self._took = 0.0

    def commit(self, rows: Sequence[Row], seconds: float) -> Sequence[Outcome]:
        """What became of each row, in order, once they are committed. The call's rows are in or out
        as a whole.

        Raises NotTold where a leader does not come back within `seconds`, and what `write` raises.
        """
        call: _Call[Row, Outcome] = _Call(rows)
        if not self._line_up(call):
            self._wait(call, seconds)
        if call.leads:
            self._lead(call)
        if call.error is not None:
            raise call.error
        return self._write(rows) if call.outcomes is None else call.outcomes

    def _line_up(self, call: _Call[Row, Outcome]) -> bool:
        """Does the call lead?"""
        with self._lock:
            now = time.monotonic()
            if self._leader is None or now - self._leads_since > PATIENCE_SECONDS:
                self._name_leader(call, now)
                return True
            self._waiting.append(call)
            if self._is_complete():
                self._complete.set()
            return False

    def _is_complete(self) -> bool:
        return 1 + len(self._waiting) >= self._calls

    def _name_leader(self, call: _Call[Row, Outcome], now: float) -> None:
        self._leader, self._leads_since = call, now
        self._complete.clear()
        call.leads = True

    def _wait(self, call: _Call[Row, Outcome], seconds: float) -> None:
        """Until the call is told what became of it, or that it leads."""
        if call.told.acquire(timeout=min(PATIENCE_SECONDS, seconds)):
            return
        with self._lock:
            if call.leads:
                return
            if call in self._waiting:
                self._waiting.remove(call)
                self._name_leader(call, time.monotonic())
                return
        if not call.told.acquire(timeout=max(seconds - PATIENCE_SECONDS, 0.0)):
            raise NotTold(f"others' commit took more than {seconds:g} s")

    def _lead(self, leader: _Call[Row, Outcome]) -> None:
        self._let_others_come()
        with self._lock:
            group = self._take(leader)
        began = time.monotonic()
        try:
            self._commit(group)
        finally:
            for call in group[1:]:
                call.told.release()
            self._pass_on(leader, len(group), began)

    def _let_others_come(self) -> None:
        with self._lock:
            if self._is_complete() or time.monotonic() - self._ended > PATIENCE_SECONDS:
                return
            pause = min(self._took, GATHER_SECONDS)
        self._complete.wait(pause)

    def _take(self, leader: _Call[Row, Outcome]) -> list[_Call[Row, Outcome]]:
        """The leader, and those that wait, as far as there is room."""
        group, room = [leader], MOST_ROWS - len(leader.rows)
        while self._waiting and len(self._waiting[0].rows) <= room:
            call = self._waiting.popleft()
            room -= len(call.rows)
            group.append(call)
        return group

    def _commit(self, group: Sequence[_Call[Row, Outcome]]) -> None:
        """Tell each call what became of it; nothing where it is to write by itself."""
        try:
            outcomes = self._write([row for call in group for row in call.rows])
        except Exception as error:
            for call in group:
                call.error = error if len(group) == 1 else self._shared(error)
        else:
            end = 0
            for call in group:
                begin, end = end, end + len(call.rows)
                call.outcomes = outcomes[begin:end]

    def _pass_on(self, leader: _Call[Row, Outcome], calls: int, began: float) -> None:
        """Whoever waits longest leads next, unless another leads already."""
        with self._lock:
            now = time.monotonic()
            self._calls, self._ended, self._took = calls + len(self._waiting), now, now - began
            if self._leader is not leader:
                return
            self._leader = None
            if self._waiting:
                following = self._waiting.popleft()
                self._name_leader(following, now)
                following.told.release()
