"""Requests that come while a slow model is busy are computed together when it is free (ADR 0065).

Many models cost the same for a row as for thirty: a pipeline over a table, a forest of Python
objects. One call at a time is made of a model; whoever comes meanwhile waits for it, and all who
wait are the next call. Somebody who comes alone waits for nobody. Rows are computed each for
itself, so this is for models whose answers follow from a file alone.
"""

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from . import snapshot
from .deadline import DeadlineExceeded, WaitedInVain
from .runtimes.columns import Rows, Table
from .runtimes.runtime import ModelError, Outputs

Call = Callable[[Rows], Outputs]


class _Member:
    """A request's rows, and what it is told: its outputs, or that it makes the next call, or
    neither where the call for it failed."""

    __slots__ = ("leads", "outputs", "rows", "told")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.told = threading.Event()
        self.outputs: Outputs | None = None
        self.leads = False


class _Queue:
    """The calls of one model on one endpoint."""

    def __init__(self, most_rows: int, wait_seconds: float) -> None:
        self._most_rows = most_rows
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._is_busy = False
        self._waiting: list[_Member] = []
        self._had_company = False  # did the last call hold more than one request?
        self._late_after = 0.0  # seconds that the last call had when it was left; 0 where it came back

    def predict(self, rows: Rows, call: Call, deadline: float) -> Outputs:
        """What `call` gives for these rows, asked with others' or alone. Raises WaitedInVain at
        `deadline` (time.perf_counter), and what `call` raises for these rows."""
        mine = _Member(rows)
        with self._lock:
            has_waited = self._is_busy
            if has_waited:
                self._waiting.append(mine)
            else:
                mine.leads = self._is_busy = True
        if has_waited and not mine.told.wait(max(0.0, deadline - time.perf_counter())):
            self._leave(mine)
        if mine.leads:
            return self._lead(mine, call, deadline, has_waited=has_waited)
        if mine.outputs is None:  # the call failed, maybe for another's rows
            self._expect_in_time(deadline)
            return call(rows)
        return mine.outputs

    def _expect_in_time(self, deadline: float) -> None:
        """Raises WaitedInVain where a call that had as long as this waiter has left did not come
        back: one more would be left behind like it, and count against the model like it."""
        if self._late_after and deadline - time.perf_counter() <= self._late_after:
            raise WaitedInVain

    def _leave(self, mine: _Member) -> None:
        """The deadline is over. Raises WaitedInVain, unless the outputs came just now."""
        with self._lock:
            self._waiting = [member for member in self._waiting if member is not mine]
        if mine.leads:
            self._hand_on()
        if mine.outputs is None:
            raise WaitedInVain

    def _lead(self, mine: _Member, call: Call, deadline: float, *, has_waited: bool) -> Outputs:
        members = [mine]
        try:
            if has_waited:
                self._expect_in_time(deadline)
            if self._had_company and self._wait_seconds:
                # Those who were answered together ask again together.
                time.sleep(min(self._wait_seconds, max(0.0, deadline - time.perf_counter()) / 4))
            members = self._boarding(mine)
            began = time.perf_counter()
            try:
                outputs = call(mine.rows if len(members) == 1 else _joined([member.rows for member in members]))
            except DeadlineExceeded:
                self._late_after = time.perf_counter() - began
                raise
            self._late_after = 0.0
            _share_out(outputs, members)
        except DeadlineExceeded:
            raise
        except Exception:
            if len(members) == 1:
                raise
        finally:
            self._hand_on()
            for member in members[1:]:
                member.told.set()
        return call(mine.rows) if mine.outputs is None else mine.outputs

    def _boarding(self, mine: _Member) -> list[_Member]:
        """Who is computed with `mine`: the first who wait, as many as there is room for."""
        members, left, room = [mine], [], self._most_rows - len(mine.rows)
        with self._lock:
            for member in self._waiting:
                if len(member.rows) <= room:
                    members.append(member)
                    room -= len(member.rows)
                else:
                    left.append(member)
            self._waiting = left
            self._had_company = len(members) > 1
        return members

    def _hand_on(self) -> None:
        with self._lock:
            following = self._waiting.pop(0) if self._waiting else None
            self._is_busy = following is not None
            if following is not None:
                following.leads = True
                following.told.set()


class Batching:
    """Those of an endpoint. `most_rows`: of a call. `wait_seconds`: how long a call waits for
    others where the one before had some."""

    def __init__(self, most_rows: int, wait_seconds: float) -> None:
        self.most_rows = most_rows
        self._wait_seconds = wait_seconds
        self._queues: dict[tuple[str, str | None], _Queue] = {}

    @classmethod
    def of(cls, document: snapshot.Endpoint) -> "Batching | None":
        """As the endpoint wants it; None where each request is a call."""
        wanted = document.batch
        return None if wanted is None else cls(wanted.rows, wanted.wait_ms / 1000.0)

    def predict(self, model: snapshot.Model, rows: Rows, call: Call, deadline: float) -> Outputs:
        """As `_Queue.predict`."""
        if model.features is None or len(rows) >= self.most_rows:  # of any width, or a whole call already
            return call(rows)
        key = model.model, model.sha256
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues.setdefault(key, _Queue(self.most_rows, self._wait_seconds))
        return queue.predict(rows, call, deadline)


def _joined(parts: list[Rows]) -> Rows:
    """The rows of one endpoint's requests, which have the same columns."""
    arrays: list[NDArray[np.float64]] = []
    tables: list[Table] = []
    for part in parts:
        if isinstance(part, Table):
            tables.append(part)
        else:
            arrays.append(part)
    if not tables:
        return np.concatenate(arrays)
    columns = zip(*(table.arrays for table in tables), strict=True)
    return Table(tables[0].columns, [np.concatenate(column) for column in columns])


def _share_out(outputs: Outputs, members: list[_Member]) -> None:
    """Each its rows' values. Raises ModelError where there are not as many as rows."""
    count = sum(len(member.rows) for member in members)
    if any(len(values) != count for values in outputs.values()):
        raise ModelError(f"{count} rows gave another number of values")
    start = 0
    for member in members:
        end = start + len(member.rows)
        member.outputs = {name: values[start:end] for name, values in outputs.items()}
        start = end
