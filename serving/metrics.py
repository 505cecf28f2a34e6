"""What Prometheus reads of a web process."""

import argparse
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .gathering import Gathering, SummedHistogram
from .learner_sign import LearnerWatch

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

DECISIONS = Counter(
    "noregret_decisions_total",
    "Decisions answered, by endpoint, arm (empty without an experiment) and why the champion answered instead.",
    ["endpoint", "arm", "fallback_reason"],
)
PREDICT_SECONDS = SummedHistogram(
    "noregret_predict_seconds", "Time of a predict call inside the service, in seconds.", ["endpoint"], buckets=_SECONDS
)
GATHERING = Gathering(DECISIONS, PREDICT_SECONDS)
"""What each decision changes of the two above."""
NOT_LEARNABLE = Counter(
    "noregret_decisions_lost_total",
    "Decisions that neither Redis nor the spool took, by endpoint and why the spool did not: limit, disk.",
    ["endpoint", "reason"],
)
SPOOLED = Counter(
    "noregret_decisions_spooled_total",
    "Decisions kept on disk, by endpoint and why: backlog, full, refused, unreachable, paused (after any of the last three).",
    ["endpoint", "reason"],
)
SHADOWS_DROPPED = Counter(
    "noregret_shadow_copies_dropped_total",
    "Copies of requests that shadow challengers never saw, by endpoint.",
    ["endpoint"],
)
FEEDBACK_UNAVAILABLE = Counter(
    "noregret_feedback_unavailable_total",
    "Calls of feedback that PostgreSQL did not take (503), by why: no_connection, connection, timeout, disk_full, read_only, other.",
    ["reason"],
)

REWARDS = Counter("noregret_rewards_total", "Rewards answered, by what became of them.", ["status"])
ACTIVATIONS = Counter("noregret_activations_total", "Activations answered, by what became of them.", ["status"])

EDGE_EVENTS = Counter(
    "noregret_edge_events_total",
    "Events of devices answered, by endpoint and what became of them.",
    ["endpoint", "status"],
)


def of_learner(watch: LearnerWatch, endpoints: Iterable[str]) -> CollectorRegistry:
    """What a process hears of the learner now. Apart from the counters, which the processes of a
    machine add up."""
    registry = CollectorRegistry()
    registry.register(_LearnerCollector(watch, sorted(endpoints)))
    return registry


class _LearnerCollector(Collector):
    def __init__(self, watch: LearnerWatch, endpoints: Iterable[str]) -> None:
        self._watch, self._endpoints = watch, endpoints

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "noregret_learner_silent_seconds",
            "Seconds since the learner last looked at every endpoint.",
            value=self._watch.silent_seconds,
        )
        behind = GaugeMetricFamily(
            "noregret_learner_behind_seconds",
            "For how long the learner has been behind with an endpoint; 0 where it is not.",
            labels=["endpoint"],
        )
        for endpoint in self._endpoints:
            behind.add_metric([endpoint], self._watch.behind_seconds(endpoint))
        yield behind


def web_processes(arguments: Sequence[str], default: int) -> int:
    """How many run, by the command line that its processes have too; `default` where that does not
    say."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--workers", type=int, default=default)
    try:
        return int(parser.parse_known_args(list(arguments))[0].workers)
    except (argparse.ArgumentError, SystemExit):
        return default
