"""What the benchmark does with a platform's database and Redis directly, in a process of its own.

python -m noregret.bench.inside_platform ACTION ...: with NOREGRET_DATA_DIR naming the platform's
data directory. It prints one JSON object.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from noregret import env

SEATS_OF_INGEST = 3
_FILL_AT_ONCE = 1000


def begin_earlier(experiment: str, rows: int) -> dict[str, Any]:
    from noregret.bench import generated_ledger
    from noregret.experiments.models import Experiment

    generated_ledger.begin_earlier(Experiment.objects.get(name=experiment), rows)
    return {}


def endpoints(count: int, models: int) -> dict[str, Any]:
    """So many endpoints, their champions irises@1, @2, ... by turns; and until all are
    published."""
    from noregret.redis_client import client, keys
    from noregret.rollout.endpoints import create_endpoint

    names = [f"other-{i}" for i in range(count)]
    for i, name in enumerate(names):
        create_endpoint(name=name, champion=f"irises@{1 + i % models}", deadline_ms=300, actor="bench")
    until = time.monotonic() + 60.0
    while not all(client().exists(keys().snapshot(name)) for name in names) and time.monotonic() < until:
        time.sleep(0.5)
    return {"endpoints": count}


def history(experiment: str, rows: int) -> dict[str, Any]:
    """So many rows behind the experiment, learned. Seconds of writing them."""
    from noregret.bench import generated_ledger
    from noregret.experiments.models import Experiment

    began = time.perf_counter()
    found = Experiment.objects.get(name=experiment)
    written = generated_ledger.write(found, rows)
    return {"rows": written, "seconds": time.perf_counter() - began}


def rebuild(experiment: str, rounds: int) -> dict[str, Any]:
    """Rows a second of each rebuild; the first, which brings the sums up, is not counted."""
    from noregret.experiments.models import Experiment
    from noregret.learning.rebuild import rebuild as rebuild_sums
    from serving.models import Decision, Reward

    found = Experiment.objects.select_related("endpoint").get(name=experiment)
    per_second = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        rebuild_sums(found, write=True)
        seconds = time.perf_counter() - began
        if number:
            of_it = [model.objects.filter(experiment_id=found.pk).count() for model in (Decision, Reward)]
            per_second.append(sum(of_it) / seconds)
    return {"rows_per_second": per_second, "rows": sum(of_it)}


def ingest(rows: int, rounds: int) -> dict[str, Any]:
    """Decisions a second from a full stream into the ledger, on servers of its own."""
    from django.core.management import call_command

    from noregret.embedded.engines import running_engines

    with running_engines(env.data_dir()):
        call_command("migrate", verbosity=0)
        try:
            return {"rows_per_second": [_drained(number, rows) for number in range(rounds + 1)][1:]}
        finally:
            _close_connections()


def _drained(number: int, rows: int) -> float:
    from noregret.experiments.models import Endpoint
    from noregret.learning.drain import drain

    name, experiment_id, arms = _experiment(number)
    _fill(name, experiment_id, arms, rows)
    endpoint = Endpoint.objects.get(name=name)
    began, left = time.perf_counter(), rows
    while left > 0:
        decisions = drain(endpoint).decisions
        if not decisions:
            raise RuntimeError(f"{left} of {rows} decisions did not reach the ledger")
        left -= decisions
    return rows / (time.perf_counter() - began)


def _experiment(number: int) -> tuple[str, int, list[int]]:
    """A running bandit of its own for each round: its endpoint, its number, its arms'."""
    import msgspec

    from noregret.experiments import document
    from noregret.registry.frameworks import StaticDefinition
    from noregret.registry.register import register_model
    from noregret.rollout import creation
    from noregret.rollout.endpoints import create_endpoint
    from noregret.rollout.transitions import move

    name = f"ingest-{number}"
    seats = []
    for seat in range(SEATS_OF_INGEST):
        register_model(StaticDefinition(name=name, version=str(seat), payload={"seat": seat}), actor="bench")
        seats.append({"name": f"arm-{seat}", "model": f"{name}@{seat}"})
    create_endpoint(name=name, champion=f"{name}@0", deadline_ms=300, actor="bench")
    body = {"name": name, "endpoint": name, "strategy": "bandit", "arms": seats}
    created = creation.create_experiment(msgspec.convert(body, document.Experiment), actor="bench")
    running = move(created, "start", actor="bench")
    return name, running.pk, list(running.arms.order_by("position").values_list("pk", flat=True))


def _fill(endpoint: str, experiment_id: int, arms: list[int], rows: int) -> None:
    """Decisions as a web process appends them."""
    from noregret.redis_client import client, keys
    from serving.ledger import events
    from serving.redis_keys import BODY_FIELD
    from serving.tokens import new_id

    share = 1.0 / len(arms)
    for first in range(0, rows, _FILL_AT_ONCE):
        pipeline = client().pipeline(transaction=False)
        for i in range(first, min(first + _FILL_AT_ONCE, rows)):
            event = events.DecisionEvent(
                version=events.VERSION,
                id=new_id(),
                experiment_id=experiment_id,
                arm_id=arms[i % len(arms)],
                propensities=[share] * len(arms),
                propensity=share,
                policy_version=1,
                unit=f"user-{i % 50_000}",
                context=None,
                request_id=None,
                latency_ms=0.2,
                fallback_reason=None,
            )
            pipeline.xadd(keys().decisions(endpoint), {BODY_FIELD: events.encode(event)})
        pipeline.execute()


def _close_connections() -> None:
    from django.db import connections

    connections.close_all()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="inside_platform", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    options: dict[str, dict[str, type]] = {
        "begin-earlier": {"experiment": str, "rows": int},
        "endpoints": {"count": int, "models": int},
        "history": {"experiment": str, "rows": int},
        "rebuild": {"experiment": str, "rounds": int},
        "ingest": {"rows": int, "rounds": int},
    }
    for action, fields in options.items():
        of_it = actions.add_parser(action)
        for field, kind in fields.items():
            of_it.add_argument(f"--{field}", type=kind, required=True)
    chosen = vars(parser.parse_args(arguments))
    action = chosen.pop("action")
    env.name_settings()
    import django

    django.setup()
    calls: dict[str, Callable[..., dict[str, Any]]] = {
        "begin-earlier": begin_earlier,
        "endpoints": endpoints,
        "history": history,
        "rebuild": rebuild,
        "ingest": ingest,
    }
    sys.stdout.write(json.dumps(calls[action](**chosen)) + os.linesep)


if __name__ == "__main__":
    main(sys.argv[1:])
