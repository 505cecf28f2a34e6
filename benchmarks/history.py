"""What history costs: the results call, the page's figures and a round of learning, on an empty
ledger and on a full one.

python -m benchmarks.history --rows 3000000 > docs/tables/history.md

Four kinds of experiment, each with so many rows behind it (decisions, rewards, values of a metric,
shadow predictions) over --days days. The rows are written by SQL, marked as learned, and the kept
sums are brought up by `rebuild` and by rounds of the learner.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks.own_platform import own_platform

CALLS = 9
ROUNDS = 30
"""They go through what is there in pieces (noregret.learning.watched.watching)."""
FRESH = 50
"""Decisions that come before each round that is timed: a round that learns nothing would show
nothing."""
ALLOWED_RATIO, ALLOWED_MORE_MS = 1.5, 20.0

BINARY = {"kind": "binary", "window_seconds": 600, "default": 0}
COST = {"metric": "cost", "action": "pause", "max": 5.0}
KINDS: dict[str, dict[str, Any]] = {
    "bandit with holdout": {"strategy": "bandit", "policy": {"name": "thompson"}, "holdout": 0.1, "reward": BINARY},
    "A/B by unit, guarded metric": {
        "strategy": "ab",
        "reward": BINARY,
        "guardrails": [COST, COST | {"versus": "control", "max": 0.5}],
    },
    "forgetting bandit": {
        "strategy": "bandit",
        "policy": {"name": "thompson", "params": {"discount": 0.999}},
        "reward": BINARY | {"default": None},
    },
    "shadow": {"strategy": "shadow", "reward": BINARY},
}

_PREDICTIONS = """
INSERT INTO serving_shadowprediction (decision_id, decided_at, experiment_id, arm_id, latency_ms, champion_latency_ms, agrees,
    difference, predicted, champion_predicted)
SELECT id, decided_at, experiment_id, %(second)s, 2 + random(), latency_ms, said = 1, abs(said - 1),
    jsonb_build_array(said), jsonb_build_array(1)
FROM (SELECT *, (random() < 0.99)::int AS said FROM serving_decision WHERE experiment_id = %(experiment)s
    AND decided_at >= %(start)s AND decided_at < %(end)s) AS d
ON CONFLICT DO NOTHING
"""


@dataclass(slots=True)
class Timed:
    """Milliseconds, the median of a few calls."""

    results: float
    figures: float
    round: float


class Bench:
    """The four experiments in a scratch database."""

    def __init__(self, rows: int, days: int) -> None:
        self._rows, self._days = rows, days

    def prepare(self) -> None:
        from django.core.management import call_command
        from noregret.registry.frameworks import StaticDefinition
        from noregret.registry.register import register_model
        from noregret.rollout.endpoints import create_endpoint

        call_command("migrate", verbosity=0)
        for version in ("1", "2"):
            register_model(StaticDefinition(name="page", version=version, payload={"v": version}), actor="bench")
        for i in range(len(KINDS)):
            create_endpoint(name=f"e{i}", champion="page@1", deadline_ms=300, actor="bench")

    def start(self, i: int, document: dict[str, Any]) -> Any:
        """The experiment, begun `days` ago."""
        import msgspec
        from django.utils import timezone
        from noregret.experiments import document as documents
        from noregret.experiments.models import Experiment
        from noregret.rollout import creation
        from noregret.rollout.transitions import move

        shadow = document["strategy"] == "shadow"
        arms = [{"name": "b", "model": "page@2"}]
        if not shadow:
            arms.insert(0, {"name": "a", "model": "page@1"})
        body = {"name": f"x{i}", "endpoint": f"e{i}", "arms": arms, **document}
        made = creation.create_experiment(msgspec.convert(body, documents.Experiment), actor="bench")
        move(made, "start", actor="bench")
        Experiment.objects.filter(pk=made.pk).update(started_at=timezone.now() - timedelta(days=self._days))
        return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=made.pk)

    def fill(self, experiment: Any) -> None:
        """So many rows, all of them learned."""
        from django.db import connection, transaction
        from django.utils import timezone
        from noregret.bench import generated_ledger
        from noregret.learning.buckets import bucket_width, floor_to_bucket
        from noregret.learning.models import ExperimentEvidence

        from serving.ledger import partitions

        now = timezone.now()
        start = now - timedelta(days=self._days)
        with transaction.atomic(), connection.cursor() as cursor:
            partitions.ensure(cursor, start.date(), now.date() + timedelta(days=1))
        closed = floor_to_bucket(now - timedelta(seconds=660), bucket_width(experiment.reward["window_seconds"]))
        mirrored = experiment.strategy == "shadow"
        metrics = ["outcome" if mirrored else "reward", *(["cost"] if experiment.guardrails else [])]
        count = self._rows // (1 + len(metrics) + mirrored)
        parameters = generated_ledger.parameters(experiment, count) | {"start": start, "end": closed, "learned": True}
        parameters["step"] = (closed - start).total_seconds() / count
        with connection.cursor() as cursor:
            cursor.execute(generated_ledger.DECISIONS, parameters)
            if parameters["once"]:
                cursor.execute(generated_ledger.VISITS, parameters)
            for metric in metrics:
                cursor.execute(generated_ledger.REWARDS, parameters | {"metric": metric})
            if mirrored:
                cursor.execute(_PREDICTIONS, parameters | {"second": parameters["arms"][1]})
            for table in partitions.TABLES:
                cursor.execute(f"VACUUM ANALYZE {table}")
        # As if the learner had met them all: what was merged of an empty ledger is not taken for
        # them.
        ExperimentEvidence.objects.filter(experiment=experiment).update(closed_until=closed, coarse_until={})

    def bring_up(self, experiment: Any) -> None:
        from django.db import connection
        from noregret.learning.rebuild import rebuild
        from noregret.steering.round import learn

        rebuild(experiment, write=True)
        for _ in range(ROUNDS):
            learn(experiment.endpoint_id)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")

    def time(self, experiment: Any) -> Timed:
        import msgspec
        from noregret.learning.shown import segments
        from noregret.learning.shown.charts import over_time
        from noregret.learning.shown.results import results
        from noregret.rest.encoding import encoded
        from noregret.steering.round import learn

        def call() -> None:
            encoded(msgspec.structs.replace(results(experiment), segments=segments.of_experiment(experiment)))

        def figures() -> None:
            for shown in (results(experiment), over_time(experiment)):
                encoded(shown)

        def one_round() -> None:
            learn(experiment.endpoint_id)

        return Timed(
            _milliseconds(call),
            _milliseconds(figures),
            _milliseconds(one_round, before=lambda: self._come_in(experiment)),
        )

    def _come_in(self, experiment: Any) -> None:
        """A second's worth of decisions and rewards."""
        from django.db import connection
        from django.utils import timezone
        from noregret.bench import generated_ledger

        now = timezone.now()
        start = now - timedelta(seconds=1)
        step = {"start": start, "end": now, "step": 1.0 / FRESH, "learned": False}
        parameters = generated_ledger.parameters(experiment, FRESH) | step | {"salt": str(time.monotonic_ns())}
        with connection.cursor() as cursor:
            cursor.execute(generated_ledger.DECISIONS, parameters)
            for metric in ("reward", *(["cost"] if experiment.guardrails else [])):
                cursor.execute(generated_ledger.REWARDS, parameters | {"metric": metric})


def _milliseconds(call: Callable[[], None], before: Callable[[], None] = lambda: None) -> float:
    taken = []
    for _ in range(CALLS + 1):
        before()
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000.0)
    return statistics.median(taken[1:])


def _cell(empty: float, full: float) -> str:
    within = full <= ALLOWED_RATIO * empty + ALLOWED_MORE_MS
    return f"{empty:,.0f} / {full:,.0f}{'' if within else ' (more)'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--kinds", default="", help="which of the four, as 0,2; all by default")
    arguments = parser.parse_args()
    wanted = {int(kind) for kind in arguments.kinds.split(",") if kind} or set(range(len(KINDS)))
    with own_platform("history"):
        bench = Bench(arguments.rows, arguments.days)
        bench.prepare()
        _write(f"Milliseconds, empty ledger / {arguments.rows:,} rows over {arguments.days} days.")
        _write("")
        _write("| experiment | results call | figures of the page | a round of learning |")
        _write("| --- | --- | --- | --- |")
        for i, (kind, document) in enumerate(KINDS.items()):
            if i not in wanted:
                continue
            experiment = bench.start(i, document)
            empty = bench.time(experiment)
            bench.fill(experiment)
            bench.bring_up(experiment)
            full = bench.time(experiment)
            cells = [_cell(getattr(empty, name), getattr(full, name)) for name in ("results", "figures", "round")]
            _write(f"| {kind} | {' | '.join(cells)} |")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
