"""The figures that the benchmark is about: what each is, its bar and its aim.

A bar is what a release must reach, an aim what is worth working for. Names are those of `--json`.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `bar` and `aim` are in `unit`; None: told, and held to nothing."""

    name: str
    title: str
    how: str
    bar: float | None = None
    aim: float | None = None
    at_most: bool = False
    unit: str = ""

    def reaches(self, value: float, mark: float) -> bool:
        return value <= mark if self.at_most else value >= mark


@dataclass(frozen=True, slots=True)
class Value:
    """What was measured: the median of the rounds, and the rounds themselves.

    `note`: what is to be known of it, or why there is none (then `rounds` is empty).
    """

    rounds: Sequence[float] = ()
    note: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.rounds) if self.rounds else None


def verdict(figure: Figure, value: Value) -> str:
    """One word or two on where a value stands: `aim`, `bar`, `below bar`, `above bar`, `-`."""
    median = value.median
    if median is None or figure.bar is None or figure.aim is None:
        return "-"
    if figure.reaches(median, figure.aim):
        return "aim"
    if figure.reaches(median, figure.bar):
        return "bar"
    return "above bar" if figure.at_most else "below bar"


FIGURES = (
    Figure(
        "predict_to_fastapi",
        "predict to FastAPI's bare model, all of ours on one core",
        "requests/s of predict by those of FastAPI, which records nothing; each tree on one core",
        1.9,
        2.5,
    ),
    Figure(
        "predict_alone_to_fastapi",
        "predict to FastAPI, web process alone on its core",
        "as before; PostgreSQL, Redis and workers share the load generator's core meanwhile",
        2.3,
        3.0,
    ),
    Figure(
        "predict_to_noop",
        "predict to a Django no-op view",
        "requests/s of predict by those of a Django view that answers fixed JSON",
        0.60,
        0.80,
    ),
    Figure("decide_to_noop", "decide to it", "as before, of decide", 0.75, 1.0),
    Figure(
        "feedback_to_noop",
        "committed feedback to it",
        "as before, of feedback with one reward a request, each of a decision that has none yet",
        0.30,
        0.45,
    ),
    Figure(
        "batched_rewards_to_predict",
        "feedback in batches of 100, rewards/s to predict/s",
        "rewards committed a second by requests/s of predict",
        5.0,
        10.0,
    ),
    Figure(
        "half_load_p99_to_noop_p99",
        "predict p99 at half of capacity, in no-op p99s",
        "each at half of the requests/s that it reached in the same round, at a fixed rate; "
        "latency counts from when a request was due",
        3.0,
        2.0,
        at_most=True,
    ),
    Figure(
        "ingest_rows_per_s",
        "ingest, one core",
        "decisions a second from a full stream into PostgreSQL and the arms' counts; PostgreSQL, "
        "Redis and the drain on one core",
        50_000,
        120_000,
        unit="rows/s",
    ),
    Figure(
        "rebuild_rows_per_s",
        "rebuild, one core",
        "rows of the ledger (decisions and rewards) a second that `rebuild` goes through",
        300_000,
        1_000_000,
        unit="rows/s",
    ),
    Figure(
        "predict_100_arms_to_3_arms",
        "predict with 100 arms to predict with 3",
        "requests/s, on two endpoints of one process",
        0.85,
        0.95,
    ),
    Figure(
        "predict_1000_endpoints_to_1",
        "predict with 1,000 endpoints to predict with 1",
        "predict_to_noop while the process serves 1,000 endpoints, by predict_to_noop before; one of them is loaded",
        0.90,
        0.98,
    ),
    Figure(
        "predict_with_history_to_empty",
        "predict with a full ledger behind it to an empty one",
        "predict_to_noop with so many rows behind the loaded experiment, by predict_to_noop before",
        0.95,
        1.0,
    ),
    Figure(
        "web_1000_endpoints_mb",
        "memory of a web process with 1,000 endpoints and 10 small models",
        "resident memory after the load, in 10^6 bytes",
        400,
        250,
        at_most=True,
        unit="MB",
    ),
    Figure(
        "predict_p99_with_results_to_without",
        "predict p99 while 8 results calls run without end, to p99 without",
        "8 callers ask for an experiment's results one after another, waiting as a Retry-After asks",
        3.0,
        1.5,
        at_most=True,
    ),
    Figure(
        "predict_to_wsgi",
        "predict to a data-plane route that answers fixed JSON",
        "requests/s of predict by those of GET /api/v1/ping: the limit of the data plane",
    ),
)

BY_NAME = {figure.name: figure for figure in FIGURES}
