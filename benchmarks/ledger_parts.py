"""What the ledger's parts take: decisions drained, rewards written and folded, buckets closed,
sums.

python -m benchmarks.ledger_parts [--rows 200000] [--kinds 0,1] [--cores 0] [--profile]

Real PostgreSQL and Redis, made for this and thrown away, on the cores that are given. Two rates
each: rows a second of processor time of this process and both servers, which is what a core to
itself would give, and rows a second as it came.

`ingest` drains a stream of so many decisions in batches, as a round of learning does. `rebuild`
compares every sum of a ledger of so many decisions, each with a reward, with the live state
(`manage.py rebuild --check`). Its rows are decisions and rewards. It runs once before that, to
write.
"""

import argparse
import cProfile
import os
import pstats
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import Any

import psutil

from benchmarks.own_platform import own_platform

WINDOW_SECONDS = 600
BINARY = {"kind": "binary", "window_seconds": WINDOW_SECONDS}
AGES = {"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]}
KINDS: dict[str, dict[str, Any]] = {
    "bandit": {"strategy": "bandit", "policy": {"name": "thompson"}, "reward": BINARY},
    "A/B by unit": {"strategy": "ab", "reward": BINARY},
    "bandit with holdout": {"strategy": "bandit", "holdout": 0.1, "reward": BINARY | {"default": 0}},
    "contextual": {"strategy": "bandit", "policy": {"name": "lin-thompson"}, "context": AGES, "reward": BINARY},
    "guarded": {
        "strategy": "bandit",
        "policy": {"name": "thompson"},
        "reward": BINARY,
        "guardrails": [{"metric": "error_rate", "max": 0.5, "action": "pause", "versus": "control"}],
    },
}
ARMS = 3
HOURS = 1
WRITTEN_AT_ONCE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="decisions of an experiment")
    parser.add_argument("--kinds", default="0", help="which kinds of experiment, as 0,2")
    parser.add_argument("--cores", default="0", help="all of it runs on these")
    parser.add_argument("--profile", action="store_true", help="print where the time of this process goes")
    parser.add_argument("--statements", action="store_true", help="print which statements take long")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    with own_platform("ledger"):
        from django.core.management import call_command
        from noregret.registry.frameworks import StaticDefinition
        from noregret.registry.register import register_model

        call_command("migrate", verbosity=0)
        for version in range(1, ARMS + 1):
            register_model(StaticDefinition(name="page", version=str(version), payload={"v": version}), actor="bench")
        kinds = list(KINDS.items())
        for i in map(int, arguments.kinds.split(",")):
            Parts(i, *kinds[i], arguments).run()


class Parts:
    """One experiment and its ledger."""

    def __init__(self, i: int, kind: str, document: dict[str, Any], arguments: argparse.Namespace) -> None:
        import msgspec
        from django.utils import timezone
        from noregret.experiments import document as documents
        from noregret.experiments.models import Experiment
        from noregret.rollout import creation
        from noregret.rollout.endpoints import create_endpoint
        from noregret.rollout.transitions import move

        self._kind, self._arguments = kind, arguments
        create_endpoint(name=f"e{i}", champion="page@1", deadline_ms=300, actor="bench")
        arms = [{"name": f"a{n}", "model": f"page@{n}"} for n in range(1, ARMS + 1)]
        body = {"name": f"x{i}", "endpoint": f"e{i}", "arms": arms, "promotion": {"auto": False}, **document}
        made = creation.create_experiment(msgspec.convert(body, documents.Experiment), actor="bench")
        move(made, "start", actor="bench")
        self._began = timezone.now() - timedelta(hours=HOURS)
        Experiment.objects.filter(pk=made.pk).update(started_at=self._began - timedelta(hours=1))
        self._experiment = Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=made.pk)

    def run(self) -> None:
        from django.db import connection, transaction
        from noregret.learning.drain import drain
        from noregret.learning.fold import fold
        from noregret.learning.mature import mature
        from noregret.learning.rebuild import rebuild
        from noregret.steering.round import learn

        from serving.ledger import partitions

        rows = self._arguments.rows
        with transaction.atomic(), connection.cursor() as cursor:
            partitions.ensure(cursor, self._began.date(), (self._began + timedelta(hours=HOURS + 25)).date())
        identities = self._append(rows)
        endpoint = self._experiment.endpoint

        def drain_all() -> None:
            while drain(endpoint).decisions:
                pass

        with self._timed("ingest", rows):
            drain_all()
        self._reward(identities)
        with self._timed("fold", rows):
            fold(self._experiment)
        with self._timed("mature", rows):
            mature(self._experiment, self._began + timedelta(hours=HOURS + 25))
        for _ in range(3):
            learn(endpoint.pk)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
        differences = rebuild(self._experiment, write=True)
        assert not differences, differences
        with self._timed("rebuild", 2 * rows):
            differences = rebuild(self._experiment, write=False)
        assert not differences, differences

    @contextmanager
    def _timed(self, part: str, rows: int) -> Iterator[None]:
        from django.db import connection

        statements: dict[str, list[float]] = {}

        def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
            began = time.perf_counter()
            try:
                return execute(sql, params, many, context)
            finally:
                statements.setdefault(" ".join(sql.split())[:150], []).append(time.perf_counter() - began)

        profile = cProfile.Profile()
        with connection.execute_wrapper(note):
            if self._arguments.profile:
                profile.enable()
            began = time.perf_counter()
            before = _busy()
            yield
            seconds = time.perf_counter() - began
            busy = {part: after - before[part] for part, after in _busy().items()}
            profile.disable()
        each = ", ".join(f"{name} {1e6 * of_it / rows:.1f}" for name, of_it in busy.items())
        rate, wall = rows / max(sum(busy.values()), 0.001), rows / seconds
        _write(f"{self._kind}: {part} {rate:,.0f} rows/s of a core ({each} µs a row), {wall:,.0f} rows/s as it came")
        if self._arguments.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(22)
        if self._arguments.statements:
            for sql, times in sorted(statements.items(), key=lambda item: -sum(item[1]))[:12]:
                _write(f"    {sum(times):8.3f} s {len(times):6d} x  {sql}")

    def _append(self, count: int) -> list[tuple[bytes, int, float]]:
        """The decisions, evenly over the time; (id, arm id, time in µs) each."""
        from noregret.redis_client import decision_log

        from serving.ledger import events

        draw = random.Random(1)
        arms = list(self._experiment.arms.order_by("position").values_list("pk", flat=True))
        with_context = bool(self._experiment.context)
        log, begun = decision_log(), int(self._began.timestamp() * 1e6)
        identities, bodies = [], []
        for i in range(count):
            at = begun + i * HOURS * 3_600_000_000 // count
            identity = at.to_bytes(8, "big") + draw.randbytes(8)
            held_out = self._experiment.holdout > 0 and i % 10 == 0
            seat = 0 if held_out else draw.randrange(ARMS)
            shares = [0.0] * ARMS if held_out else [1 / ARMS] * ARMS
            if held_out:
                shares[0] = 1.0
            event = events.DecisionEvent(
                events.VERSION, identity, self._experiment.pk, arms[seat], shares, shares[seat], 1 + i // 1000,
                f"user-{i % (count // 10)}", {"age": i % 97} if with_context else None, None, 1.0 + draw.random(), None,
                held_out,
            )  # fmt: skip
            identities.append((identity, arms[seat], at))
            bodies.append(events.encode(event))
            if len(bodies) == WRITTEN_AT_ONCE or i == count - 1:
                log.append_many(self._experiment.endpoint.name, bodies)
                bodies = []
        return identities

    def _reward(self, identities: list[tuple[bytes, int, float]]) -> None:
        """A reward each, written in batches."""
        from django.db import connection

        from serving.ledger.rewards import NewReward, RewardWriter

        draw = random.Random(2)
        writer = RewardWriter(connection.settings_dict, size=2)
        metric = self._experiment.reward["metric"]
        rewards = [
            NewReward(
                identity, at, self._experiment.pk, arm, metric, float(draw.random() < 0.1 + arm % 3 / 20), None,
                1e9, learned=True, named=frozenset({metric}),
            )
            for identity, arm, at in identities
        ]  # fmt: skip
        try:
            few = min(len(rewards) // 4, 1000)
            with self._timed("rewards one by one", few):
                for reward in rewards[:few]:
                    writer.write([reward])
            with self._timed("rewards by the hundred", len(rewards) - few):
                for i in range(few, len(rewards), 100):
                    writer.write(rewards[i : i + 100])
        finally:
            writer.close()


def _busy() -> dict[str, float]:
    """Processor seconds of this process and of both servers, ended processes of theirs too.

    Nothing else that runs here is in it.
    """
    from noregret.redis_client import client

    memory: Any = client().info("server")
    postmaster = _postmaster()
    busy = {"self": _seconds(psutil.Process()), "redis": _seconds(psutil.Process(memory["process_id"]))}
    with suppress(psutil.NoSuchProcess):
        ended = postmaster.cpu_times()
        backends = sum(_seconds(child) for child in postmaster.children(recursive=True))
        busy["postgresql"] = _seconds(postmaster) + ended.children_user + ended.children_system + backends
    return busy


def _seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


@cache
def _postmaster() -> psutil.Process:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = psutil.Process(cursor.fetchone()[0])
    parent = backend.parent()
    assert parent is not None
    return parent


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
