"""What the admin's pages cost: server time, statements to PostgreSQL and round trips to Redis, with
hundreds of experiments and one long ledger.

python -m benchmarks.pages --rows 10000000 > docs/tables/pages.md

Sixty endpoints; experiments of every strategy, most of them ended, each with a month of sums,
points and entries in the audit trail. One running experiment has the long ledger. Each page is
asked for as by a person who opens it: nothing of it is kept from an earlier look.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks.own_platform import own_platform

ENDPOINTS = 60
RUNNING = 40
DAYS = 30
CALLS = 9
LOOKS = 30
"""Rounds of the learner after the long ledger is written: they go through it in pieces."""
ROWS_OF_OTHERS, SECONDS_OF_OTHERS = 200, 7200.0
"""Their ledgers are short and young; the sums of the month before are written beside them."""
ENTRIES = 100
"""Of the audit trail, an experiment."""

_FIELDS = {
    "fields": [
        {"name": "country", "type": "category", "values": ["KR", "US", "DE"]},
        {"name": "age", "type": "number", "min": 0, "max": 120},
    ]
}
_BINARY = {"kind": "binary", "window_seconds": 600, "default": 0}
_COST = {"metric": "cost", "action": "pause", "max": 5.0}
_RAIL = {"metric": "error_rate", "max": 0.2, "action": "pause"}
KINDS: dict[str, dict[str, Any]] = {
    "bandit": {"strategy": "bandit", "holdout": 0.1, "reward": _BINARY, "guardrails": [_RAIL]},
    "contextual": {
        "strategy": "bandit",
        "policy": {"name": "lin-thompson"},
        "context": _FIELDS,
        "reward": _BINARY,
        "guardrails": [_RAIL],
    },
    "ab": {"strategy": "ab", "reward": _BINARY, "guardrails": [_COST]},
    "canary": {
        "strategy": "canary",
        "reward": _BINARY,
        "canary": {"auto": False, "bake_seconds": 60},
        "guardrails": [_RAIL | {"action": "rollback"}],
    },
    "shadow": {"strategy": "shadow", "reward": _BINARY},
    "forgetting": {
        "strategy": "bandit",
        "policy": {"name": "thompson", "params": {"discount": 0.999}},
        "reward": _BINARY | {"default": None},
    },
    "apprentice": {"strategy": "bandit", "apprentice": True, "reward": _BINARY},
    "logistic": {
        "strategy": "bandit",
        "policy": {"name": "logistic-thompson"},
        "context": _FIELDS,
        "reward": _BINARY | {"default": None},
    },
}

_PREDICTIONS = """
INSERT INTO serving_shadowprediction (decision_id, decided_at, experiment_id, arm_id, latency_ms, champion_latency_ms, agrees,
    difference, predicted, champion_predicted)
SELECT id, decided_at, experiment_id, %(second)s, 2 + random(), latency_ms, said = 1, abs(said - 1),
    jsonb_build_array(said), jsonb_build_array(1)
FROM (SELECT *, (random() < 0.9)::int AS said FROM serving_decision WHERE experiment_id = %(experiment)s) AS d
ON CONFLICT DO NOTHING
"""
# As the learner notes them: further apart with age.
_POINTS = """
INSERT INTO learning_standingpoint (experiment_id, at, matured, shares, evidence)
SELECT e.id, e.started_at + (now() - e.started_at) * power(0.985, i), (1000 * power(0.985, i))::bigint,
    jsonb_object_agg(a.name, 1.0 / n), jsonb_object_agg(a.name, 1 + 5 * random())
FROM experiments_experiment AS e JOIN experiments_arm AS a ON a.experiment_id = e.id
CROSS JOIN LATERAL (SELECT count(*) AS n FROM experiments_arm WHERE experiment_id = e.id) AS arms
CROSS JOIN generate_series(0, 250) AS i WHERE e.strategy <> 'shadow' GROUP BY e.id, i
ON CONFLICT DO NOTHING
"""
_HOURS = """
INSERT INTO learning_arminterval (arm_id, start, seconds, decisions, failures, rewards, reward_total, reward_m2)
SELECT a.id, date_trunc('hour', now()) - make_interval(hours => i), 3600, 1000, 3, 900, 90 + i %% 10, 81
FROM experiments_arm AS a CROSS JOIN generate_series(4, 24 * %(days)s) AS i WHERE a.experiment_id <> %(long)s
ON CONFLICT DO NOTHING
"""
_WHOLE = """
UPDATE learning_armstatistics AS s SET decisions = i.decisions, failures = i.failures, rewards = i.rewards,
    mean = i.total / i.rewards, m2 = i.total * (1 - i.total / i.rewards)
FROM (SELECT arm_id, sum(decisions) AS decisions, sum(failures) AS failures, sum(rewards) AS rewards, sum(reward_total) AS total
    FROM learning_arminterval GROUP BY arm_id) AS i
WHERE s.arm_id = i.arm_id AND i.rewards > 0
"""
_ENTRIES = """
INSERT INTO access_auditentry (at, actor, action, endpoint, experiment, model, details, reason)
SELECT e.started_at + (now() - e.started_at) * i / %(entries)s, 'anna', 'experiment.arm_disabled', p.name, e.name, '',
    '{"arm": "b"}'::jsonb, 'looked slow'
FROM experiments_experiment AS e JOIN experiments_endpoint AS p ON p.id = e.endpoint_id
CROSS JOIN generate_series(1, %(entries)s) AS i
"""
_LEDGER_NAMES = ("serving_decision", "serving_reward", "serving_shadowprediction")


@dataclass(slots=True)
class Asked:
    """Of one page: milliseconds (median, shortest, and of this process alone), statements, of which
    on rows of the ledger, round trips to Redis, kilobytes."""

    page: str
    median: float
    shortest: float
    own: float
    statements: int
    of_ledger: int
    trips: int
    kilobytes: float


class Pages:
    """The experiments in a scratch database, and who looks at them."""

    def __init__(self, experiments: int, rows: int, kind: str) -> None:
        self._experiments, self._rows, self._kind = experiments, rows, kind

    def prepare(self) -> None:
        from django.core.management import call_command
        from noregret.registry.frameworks import StaticDefinition
        from noregret.registry.register import register_model
        from noregret.rollout.endpoints import create_endpoint

        call_command("migrate", verbosity=0)
        for version in ("1", "2", "3"):
            register_model(StaticDefinition(name="page", version=version, payload={"v": version}), actor="bench")
        for i in range(min(ENDPOINTS, self._experiments)):
            create_endpoint(name=f"e{i}", champion="page@1", deadline_ms=300, actor="bench")
        self._make_days()

    def _make_days(self) -> None:
        from django.utils import timezone
        from noregret.bench import generated_ledger

        generated_ledger.make_days(timezone.now() - timedelta(days=DAYS))

    def fill(self) -> Any:
        """Every experiment with its rows; the one with the long ledger."""
        from django.db import connection
        from django.utils import timezone
        from noregret.experiments.models import Experiment
        from noregret.rollout.transitions import move

        from serving.ledger import partitions

        endpoints = min(ENDPOINTS, self._experiments)
        kinds = list(KINDS)
        month = timedelta(days=DAYS)
        long = None
        for number in range(self._experiments):
            kind = kinds[(number + number // endpoints) % len(kinds)]
            last = number >= self._experiments - endpoints
            began = time.monotonic()
            is_long = long is None and last and kind == self._kind
            age = month if is_long else timedelta(seconds=SECONDS_OF_OTHERS)
            experiment = self._start(number, number % endpoints, kind, age)
            self._write(experiment, self._rows if is_long else ROWS_OF_OTHERS)
            self._bring_up(experiment, LOOKS if is_long else 1)
            if VERBOSE:
                sys.stderr.write(f"{experiment.name} filled in {time.monotonic() - began:.1f} s\n")
            if is_long:
                long = experiment.pk
            elif not last or number % endpoints >= RUNNING:
                move(experiment, "stop", actor="bench")
        Experiment.objects.exclude(pk=long).update(started_at=timezone.now() - month)
        with connection.cursor() as cursor:
            cursor.execute(_HOURS, {"days": DAYS, "long": long})
            cursor.execute(_WHOLE)
            cursor.execute(_POINTS)
            cursor.execute(_ENTRIES, {"entries": ENTRIES})
            for table in partitions.TABLES:
                cursor.execute(f"VACUUM ANALYZE {table}")
            cursor.execute("VACUUM ANALYZE")
        return long

    def _start(self, number: int, endpoint: int, kind: str, age: timedelta) -> Any:
        """An experiment that was begun so long ago."""
        import msgspec
        from django.utils import timezone
        from noregret.experiments import document as documents
        from noregret.experiments.models import Experiment
        from noregret.rollout import creation
        from noregret.rollout.transitions import move

        document = KINDS[kind]
        arms = [{"name": "b", "model": "page@2"}]
        if document["strategy"] in ("bandit", "ab"):
            arms = [{"name": "a", "model": "page@1"}, *arms, {"name": "c", "model": "page@3"}]
        body = {"name": f"{kind}-{number}", "endpoint": f"e{endpoint}", "arms": arms, **document}
        made = creation.create_experiment(msgspec.convert(body, documents.Experiment), actor="bench")
        move(made, "start", actor="bench")
        began = timezone.now() - age
        Experiment.objects.filter(pk=made.pk).update(started_at=began, created_at=began)
        return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=made.pk)

    def _write(self, experiment: Any, rows: int) -> None:
        """So many rows over the month, all of them learned."""
        from django.db import connection
        from django.utils import timezone
        from noregret.bench import generated_ledger
        from noregret.learning.buckets import bucket_width, floor_to_bucket
        from noregret.learning.models import ExperimentEvidence

        closed = floor_to_bucket(
            timezone.now() - timedelta(seconds=660), bucket_width(experiment.reward["window_seconds"])
        )
        metrics = ["reward", *(["cost"] if experiment.strategy == "ab" else [])]
        mirrored = experiment.strategy == "shadow" or experiment.apprentice
        count = rows // (1 + len(metrics) + mirrored)
        named = generated_ledger.parameters(experiment, count) | {
            "start": experiment.started_at,
            "learned": True,
            "step": (closed - experiment.started_at).total_seconds() / count,
        }
        for first in range(0, count, generated_ledger.CHUNK):
            last = min(first + generated_ledger.CHUNK, count)
            reach = {
                "start": experiment.started_at + timedelta(seconds=named["step"] * first),
                "end": experiment.started_at + timedelta(seconds=named["step"] * last),
            }
            with connection.cursor() as cursor:
                cursor.execute(generated_ledger.DECISIONS, named | {"from": first, "count": last})
                for metric in metrics:
                    cursor.execute(generated_ledger.REWARDS, named | reach | {"metric": metric})
        with connection.cursor() as cursor:
            if named["once"]:
                cursor.execute(generated_ledger.VISITS, named)
            if mirrored:
                second = next(arm for arm in named["arms"][1:])
                cursor.execute(_PREDICTIONS, named | {"second": second})
        ExperimentEvidence.objects.filter(experiment=experiment).update(closed_until=closed, coarse_until={})

    def _bring_up(self, experiment: Any, rounds: int) -> None:
        from noregret.learning.rebuild import rebuild
        from noregret.steering.round import learn

        rebuild(experiment, write=True)
        for _ in range(rounds):
            learn(experiment.endpoint_id)

    def look(self, long: int) -> Iterator[Asked]:
        from django.contrib.auth.models import User
        from django.test import Client
        from noregret.experiments.models import Experiment
        from noregret.learning.health import sign_of_life

        client = Client(headers={"host": "localhost"})
        client.force_login(User.objects.create_superuser("bench"))
        sign_of_life()
        base = "/admin/experiments/experiment"
        endpoint = Experiment.objects.get(pk=long).endpoint_id
        urls = {
            "home": "/admin/",
            "home, its fragment": "/admin/experiments/endpoint/overview",
            "experiments": f"{base}/",
            "endpoints": "/admin/experiments/endpoint/",
            "endpoint": f"/admin/experiments/endpoint/{endpoint}/change/",
            "audit trail": "/admin/trail/auditentry/",
            "audit trail, of one experiment": "/admin/trail/auditentry/?q=bandit-0",
            "experiment with the long ledger": f"{base}/{long}/change/",
            "the same, its fragments": f"{base}/{long}/figures.json",
        }
        running = Experiment.objects.filter(status="running").exclude(pk=long).order_by("pk")
        for kind in KINDS:
            other = running.filter(name__startswith=kind).first()
            if other is not None:
                urls[f"experiment: {kind}"] = f"{base}/{other.pk}/change/"
        urls["the long one, evaluated"] = f"{base}/{long}/change/?evaluate=uniform"
        yield from self._made(long)
        for name, url in urls.items():
            yield self._ask(client, name, url)

    def _made(self, long: int) -> Iterator[Asked]:
        """What a worker makes for the page of the long ledger."""
        from noregret.learning.shown import asked

        told = {"which arm for whom": asked.SEGMENTS, "another policy": asked.evaluation_by("uniform")}
        for name, what in told.items():
            taken, worked = [], []
            for _ in range(CALLS):
                began, began_work = time.perf_counter(), time.thread_time()
                asked.make(long, what)
                worked.append((time.thread_time() - began_work) * 1000.0)
                taken.append((time.perf_counter() - began) * 1000.0)
            yield Asked(f"in a worker: {name}", statistics.median(taken), min(taken), min(worked), 0, 0, 0, 0.0)

    def _ask(self, client: Any, name: str, url: str) -> Asked:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        self._forget()
        client.get(url)  # what a process reads once
        taken, worked = [], []
        for _ in range(CALLS):
            self._forget()
            began, began_work = time.perf_counter(), time.thread_time()
            answer = client.get(url)
            worked.append((time.thread_time() - began_work) * 1000.0)
            taken.append((time.perf_counter() - began) * 1000.0)
            assert answer.status_code == 200, (url, answer.status_code, answer.content[:500])
        self._forget()
        with CaptureQueriesContext(connection) as asked, counted_trips() as count:
            client.get(url)
        of_ledger = [one["sql"] for one in asked if any(table in one["sql"] for table in _LEDGER_NAMES)]
        if VERBOSE:
            for one in sorted(asked, key=lambda one: -float(one["time"]))[:3]:
                sys.stderr.write(f"{name}: {one['time']} s {' '.join(one['sql'].split())[:150]}\n")
            for sql in of_ledger:
                sys.stderr.write(f"{name}: LEDGER {' '.join(sql.split())[:150]}\n")
        return Asked(
            name,
            statistics.median(taken),
            min(taken),
            min(worked),
            len(asked),
            len(of_ledger),
            count[0],
            len(answer.content) / 1000.0,
        )

    def _forget(self) -> None:
        """As in a process that nobody has asked yet."""
        from django.core.cache import cache
        from noregret.learning.shown import shared

        cache.clear()
        shared._RESULTS._answers.clear()


@contextlib.contextmanager
def counted_trips() -> Iterator[list[int]]:
    """A list of one number: how often a connection to Redis was written to in the time of a
    `with`."""
    from redis.connection import AbstractConnection

    count, sent = [0], AbstractConnection.send_packed_command

    def send(connection: Any, command: Any, check_health: bool = True) -> None:
        count[0] += 1
        sent(connection, command, check_health)

    AbstractConnection.send_packed_command = send  # type: ignore[method-assign]
    try:
        yield count
    finally:
        AbstractConnection.send_packed_command = sent  # type: ignore[method-assign]


VERBOSE = False


def main() -> None:
    global VERBOSE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--kind", default="contextual", choices=KINDS, help="which experiment has the long ledger")
    parser.add_argument("--verbose", action="store_true", help="tell the longest statements")
    arguments = parser.parse_args()
    VERBOSE = arguments.verbose
    with own_platform("pages"):
        pages = Pages(arguments.experiments, arguments.rows, arguments.kind)
        pages.prepare()
        began = time.monotonic()
        long = pages.fill()
        sys.stderr.write(f"filled in {time.monotonic() - began:.0f} s\n")
        _write(f"{arguments.experiments:,} experiments, one of them with {arguments.rows:,} rows in its ledger.\n")
        _write(
            "| page | ms, median | ms, shortest | ms, Python alone | statements | on rows of the ledger | round trips to Redis | kB |"
        )
        _write("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for one in pages.look(long):
            cells = (
                f"{one.median:,.0f}",
                f"{one.shortest:,.0f}",
                f"{one.own:,.0f}",
                one.statements,
                one.of_ledger,
                one.trips,
            )
            _write(f"| {one.page} | {' | '.join(map(str, cells))} | {one.kilobytes:,.0f} |")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
