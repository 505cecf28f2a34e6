"""A load at a fixed rate, whatever the service does meanwhile: what users are like.

Each request has a time at which it is due, and its latency counts from then, also where every
connection was still waiting for an earlier answer. A generator that waits for answers before it
sends on asks least when the service is slowest, and leaves the worst out ("coordinated omission",
G. Tene, "How NOT to measure latency", 2013).
"""

import selectors
import time
from collections import deque

from .load import SILENCE_SECONDS, LoadFailed, Measured, Target, connected


def load_at(target: Target, *, rate: float, connections: int, seconds: float) -> Measured:
    """Send `rate` requests a second for `seconds` over at most `connections`.

    All that were due are waited for. Raises LoadFailed.
    """
    count = max(int(rate * seconds), 1)
    measured = Measured()
    # select() takes microseconds, where epoll rounds up to a millisecond: as much as a request
    # takes.
    with selectors.SelectSelector() as selector, connected(target, selector, connections) as opened:
        free = deque(opened)
        start = heard = time.perf_counter()
        sent = 0
        while len(measured.latencies) < count:
            now = time.perf_counter()
            while free and sent < count and (due := start + sent / rate) <= now:
                free.popleft().send(target.request(), due)
                sent += 1
            pause = SILENCE_SECONDS
            if free and sent < count:
                pause = max(start + sent / rate - time.perf_counter(), 0.0)
            for key, _ in selector.select(timeout=pause):
                connection = key.data
                if connection.receive(target.expected):
                    heard = time.perf_counter()
                    measured.latencies.append(heard - connection.since)
                    free.append(connection)
            if len(free) < len(opened) and time.perf_counter() - heard > SILENCE_SECONDS:
                raise LoadFailed(f"nothing was answered for {SILENCE_SECONDS:g} s")
        measured.seconds = time.perf_counter() - start
    return measured
