"""Counts of the hot path, gathered: a request leaves a note, and once a second a thread adds the
notes up.

A counter that several processes share lies in a mapped file, and each of its changes costs a lock,
a look-up and a write: 10 microseconds a request, where a note costs a tenth of one. Notes lie in
one queue, whichever thread left them, so none is lost with a thread that ends; and they are added
up before anybody reads the counters, and when the process stops. Of a process that is killed the
last second's are lost, as the last moment's always were.
"""

import atexit
import os
import threading
from bisect import bisect_left
from collections import Counter as Count
from collections import defaultdict, deque
from collections.abc import Sequence
from multiprocessing import util

from prometheus_client import Counter, Histogram

SECONDS = 1.0
MOST = 20_000
"""More notes than this wait for no thread: whoever leaves the next one adds them up."""

Note = tuple[str, str, str, float, bool | None]
"""Endpoint, arm, fallback reason, seconds, and whether the answer was kept from an earlier call;
None where the endpoint keeps none."""


class SummedHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """As `observe` of each."""
        if not amounts:
            return
        counts = Count(bisect_left(self._upper_bounds, amount) for amount in amounts)
        self._sum.inc(sum(amounts))
        for position, count in counts.items():
            self._buckets[position].inc(count)


class Gathering:
    """The notes of a process, on decisions. `decisions` by endpoint, arm and reason; `seconds` by
    endpoint; `lookups` by endpoint and result (hit, miss), of those that keep answers."""

    def __init__(self, decisions: Counter, seconds: SummedHistogram, lookups: Counter | None = None) -> None:
        self._decisions = decisions
        self._seconds = seconds
        self._lookups = lookups
        self._notes: deque[Note] = deque()
        # What `labels` gave, which looks each up under a lock.
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._histograms: dict[str, SummedHistogram] = {}
        self._adding = threading.Lock()
        os.register_at_fork(after_in_child=self._begin_anew)
        # A process ends by one of two ways; multiprocessing's children, which web processes are,
        # forget both when they begin.
        atexit.register(self.flush)
        self._flush_at_the_end()
        util.register_after_fork(self, Gathering._flush_at_the_end)

    def note(self, endpoint: str, arm: str, fallback_reason: str, seconds: float, is_kept: bool | None = None) -> None:
        """One decision. Takes no lock that anybody holds for long."""
        self._notes.append((endpoint, arm, fallback_reason, seconds, is_kept))
        if len(self._notes) > MOST:
            self.flush()

    def flush(self) -> None:
        """Add up what has been noted until now."""
        with self._adding:
            decisions: Count[tuple[str, str, str]] = Count()
            seconds: defaultdict[str, list[float]] = defaultdict(list)
            lookups: Count[tuple[str, str]] = Count()
            for _ in range(len(self._notes)):
                endpoint, arm, fallback_reason, took, is_kept = self._notes.popleft()
                decisions[endpoint, arm, fallback_reason] += 1
                seconds[endpoint].append(took)
                if is_kept is not None:
                    lookups[endpoint, "hit" if is_kept else "miss"] += 1
            for labels, count in decisions.items():
                counter = self._counters.get(labels)
                if counter is None:
                    counter = self._counters[labels] = self._decisions.labels(*labels)
                counter.inc(count)
            if self._lookups is not None:
                for (endpoint, result), count in lookups.items():
                    self._lookups.labels(endpoint, result).inc(count)
            for endpoint, amounts in seconds.items():
                histogram = self._histograms.get(endpoint)
                if histogram is None:
                    histogram = self._histograms[endpoint] = self._seconds.labels(endpoint)
                histogram.observe_all(amounts)

    def _flush_at_the_end(self) -> None:
        util.Finalize(None, self.flush, exitpriority=0)

    def _begin_anew(self) -> None:
        """The notes are the parent's, and it counts them."""
        self._notes.clear()
        self._adding = threading.Lock()


class Gatherer:
    """The thread of a process that adds up."""

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=SECONDS)
        self._gathering.flush()

    def _run(self) -> None:
        while not self._stop.wait(SECONDS):
            self._gathering.flush()
