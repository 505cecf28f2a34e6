"""What those who run the service ask: does the process live, is it ready, what does it count."""

from collections.abc import Callable
from typing import Any

import msgspec
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from noregret.learning.health import gives_sign, learner
from noregret.redis_client import probing_client
from noregret.rest import replica
from noregret.rest.problem_response import problem_response
from serving import exposition, problems, readiness
from serving.api.calls import Call, Parameter, declared
from serving.clustered_redis import ClusteredRedis
from serving.process import process
from serving.readiness import Check, Found


@declared(Call("Does the process live?", {200: dict[str, Any]}, name="healthz", open=True))
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """GET /healthz: 200 while the process lives. It asks no server: a lost database is no reason to
    restart a process."""
    return HttpResponse(msgspec.json.encode({"status": "ok"}), content_type="application/json")


@declared(
    Call(
        "Can this process serve?",
        {200: dict[str, Any], 503: dict[str, Any]},
        parameters=(
            Parameter(
                "strict",
                str,
                "`1`: 503 for anything that is wrong, also what other processes would have alike.",
                ("0", "1"),
            ),
        ),
        name="readyz",
        open=True,
    )
)
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """GET /readyz: 200 while this process can serve, with what each check found; `?strict=1`: 503
    for anything that is wrong.

    What a load balancer can mend by asking another process takes this one out: snapshots never
    read, migrations missing, a champion that is not loaded, and any of these that can't be told. A
    server that is away, a learner that is silent, a challenger that does not load are told, and
    take nobody out: every process would fail alike, and the last snapshot serves on.
    """
    strict = request.GET.get("strict") == "1"
    checks = _CHECKS | {"replica": Check(_replica)} if replica.is_named() else _CHECKS
    status, document = readiness.told(checks, strict=strict)
    return HttpResponse(msgspec.json.encode(document), content_type="application/json", status=status)


@declared(Call("Prometheus metrics", {200: str}, name="metrics", media_type="text/plain", open=True))
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """GET /metrics: Prometheus's text form, of all web processes of this machine together; the
    learner as this process hears of it.

    503 where each of several counts alone: whichever process answered would tell its own counters,
    and a counter that jumps to and fro is no counter.
    """
    if exposition.counts_alone():
        return problem_response(problems.unavailable(exposition.ALONE, retry_after=60))
    return HttpResponse(exposition.text() + _of_replica(), content_type=exposition.CONTENT_TYPE_LATEST)


def _of_replica() -> bytes:
    """How far the replica is behind, as this process knows it, where settings name one."""
    found = replica.state()
    if found is None:
        return b""
    registry = CollectorRegistry()
    lag = Gauge("noregret_replica_lag_seconds", "How old the replica is; NaN where nobody knows.", registry=registry)
    lag.set(float("nan") if found.lag_seconds is None else found.lag_seconds)
    return generate_latest(registry)


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """GET /favicon.ico: browsers ask for it whatever a page says; there is none."""
    return HttpResponse(status=204)


def answer_probes(respond: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Who asks whether the process lives names an address of a pod or of a node, which is no name
    that the service answers to."""
    probes = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}

    def middleware(request: HttpRequest) -> HttpResponse:
        probe = probes.get(request.path_info)
        return respond(request) if probe is None else probe(request)

    return middleware


def _database() -> Found:
    """It answers, and takes a reward as feedback would bring it. Asked first: a pool would wait for
    one that is away."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    process().rewards.probe()
    return {"ok": True}


def _migrations() -> Found:
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    return {"ok": missing == 0, "missing": missing}


def _redis() -> Found:
    asked = probing_client()
    asked.ping()  # of a cluster, each server that takes writes
    if not isinstance(asked, ClusteredRedis):
        return {"ok": True}
    missing = asked.topology.slots_without_server
    return {"ok": not missing, "servers": len(asked.topology.shards), "slots_without_server": missing}


def _learner() -> Found:
    """That somebody looks, and with which endpoints that is behind: theirs alone, and every other
    is served and learned for."""
    found = learner()
    alive = gives_sign(found.age_seconds)
    lagging = {name: {"seconds": lag.seconds, "why": lag.why} for name, lag in found.lagging.items()}
    return {"ok": alive and not lagging, "seconds_since_round": found.age_seconds, "lagging": lagging}


def _replica() -> Found:
    """Away or too far behind, the primary is read in its place."""
    found = replica.state()
    if found is None:
        return {"ok": True}
    told = {} if found.problem is None else {"problem": found.problem}
    return {"ok": found.problem is None, "lag_seconds": found.lag_seconds} | told


_CHECKS = {
    "database": Check(_database),
    "migrations": Check(_migrations, takes_out=True, of_database=True),
    "redis": Check(_redis),
    "learner": Check(_learner),
} | readiness.OF_THE_STORE
