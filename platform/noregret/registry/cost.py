"""Measures what a model's calls take, by the runtime that would serve it. Runs only in the
inspecting child process.

A web process runs short calls by the request's own thread, and all others where it can leave them
(serving.pace). What is measured is the shortest of some calls: a machine that was busy makes no
model look slow.
"""

import time
import warnings
from dataclasses import dataclass

import numpy as np

from serving.runtimes.columns import Rows
from serving.runtimes.runtime import Runtime

_ROWS = 64
_CALLS = 5
_SECONDS = 2.0  # for each of the two measurements


@dataclass(frozen=True, slots=True)
class Cost:
    """`call_seconds`: what a call takes whatever it holds; `row_seconds`: what each row adds."""

    call_seconds: float
    row_seconds: float


def measure(runtime: Runtime, example_rows: Rows) -> Cost:
    """Of rows that the model answers, at least one. Raises what the model raises."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        single = _shortest(runtime, example_rows[:1])
        count = int(min(_ROWS, _SECONDS / max(single, 1e-9)))
        if count < 2:
            return Cost(0.0, single)
        many = _shortest(runtime, example_rows[np.arange(count) % len(example_rows)])
    row_seconds = max(0.0, many - single) / (count - 1)
    return Cost(max(0.0, single - row_seconds), row_seconds)


def _shortest(runtime: Runtime, rows: Rows) -> float:
    """Seconds of the shortest of some calls."""
    shortest = float("inf")
    until = time.perf_counter() + _SECONDS
    for _ in range(_CALLS):
        began = time.perf_counter()
        runtime.predict(rows)
        ended = time.perf_counter()
        shortest = min(shortest, ended - began)
        if ended > until:
            break
    return shortest
