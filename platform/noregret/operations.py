"""What those who run the service ask: does the process live, is it ready, what does it count."""

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

from noregret.learning.health import learner
from noregret.redis_client import client
from noregret.rest.problem_response import problem_response
from serving import problems
from serving.api.calls import Call, Parameter, declared
from serving.bounded_connection import within
from serving.ledger.rewards import LedgerUnavailable
from serving.metrics import GATHERING, of_learner, web_processes
from serving.process import process

ANSWER_SECONDS = 1.0
"""A probe waits no longer for each answer of PostgreSQL: who asks has a limit of its own, of a few
seconds."""

Check = dict[str, Any]
"""`ok`: is it well? `serves`: where it is not, can this process not serve?"""


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
    read, migrations missing, a champion that is not loaded. A server that is away, a learner that
    is silent, a challenger that does not load are told, and take nobody out: every process would
    fail alike, and the last snapshot serves on.
    """
    checks: dict[str, Check] = {}
    with within(ANSWER_SECONDS):
        for name, check in _CHECKS.items():
            is_known = name not in _OF_THE_DATABASE or checks["database"]["ok"]
            checks[name] = _run(check) if is_known else _run(_unknown)
    serves = all(check["ok"] or not check["serves"] for check in checks.values())
    well = all(check["ok"] for check in checks.values())
    status = "ready" if well else "ready, with troubles" if serves else "not ready"
    good = well if request.GET.get("strict") == "1" else serves
    body = {"status": status, "checks": checks}
    return HttpResponse(msgspec.json.encode(body), content_type="application/json", status=200 if good else 503)


@declared(Call("Prometheus metrics", {200: str}, name="metrics", media_type="text/plain", open=True))
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """GET /metrics: Prometheus's text form, of all web processes of this machine together; the
    learner as this process hears of it.

    503 where each of several counts alone: whichever process answered would tell its own counters,
    and a counter that jumps to and fro is no counter.
    """
    if counts_alone():
        return problem_response(
            problems.unavailable("several web processes count alone: set PROMETHEUS_MULTIPROC_DIR", retry_after=60)
        )
    GATHERING.flush()  # of this process; the others' are a second old at most
    registry = REGISTRY
    if settings.METRICS_DIR is not None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(settings.METRICS_DIR))  # type: ignore[no-untyped-call]  # left untyped there
    store = process().store
    learns = of_learner(store.learner, [live.document.name for live in store.endpoints()])
    return HttpResponse(generate_latest(registry) + generate_latest(learns), content_type=CONTENT_TYPE_LATEST)


def counts_alone() -> bool:
    """Is this one of several web processes that have no folder through which they add up their
    counters?"""
    workers = settings.ENVIRONMENT.web_processes
    return settings.METRICS_DIR is None and web_processes(sys.argv[1:], workers) > 1


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


def _run(check: Callable[[], Check]) -> Check:
    start = time.perf_counter()
    try:
        found = check()
    except (DatabaseError, LedgerUnavailable, redis.RedisError, OSError, ImproperlyConfigured) as error:
        found = {"ok": False, "problem": str(error).strip().splitlines()[0] if str(error) else type(error).__name__}
    return {"serves": False} | found | {"ms": round((time.perf_counter() - start) * 1000, 1)}


def _database() -> Check:
    """It answers, and takes a reward as feedback would bring it. Asked first: a pool would wait for
    one that is away."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    process().rewards.probe()
    return {"ok": True}


def _unknown() -> Check:
    return {"ok": False, "problem": "nobody knows while the database is away"}


def _migrations() -> Check:
    """Missing ones take this process out; while the database is away nobody knows, and it serves
    on."""
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    return {"ok": missing == 0, "serves": True, "missing": missing}


def _redis() -> Check:
    client().ping()
    return {"ok": True}


def _learner() -> Check:
    """That somebody looks, and with which endpoints that is behind: theirs alone, and every other
    is served and learned for."""
    found = learner()
    alive = found.age_seconds is not None and found.age_seconds <= settings.LEARNER_DEAD_SECONDS
    lagging = {name: {"seconds": lag.seconds, "why": lag.why} for name, lag in found.lagging.items()}
    return {"ok": alive and not lagging, "seconds_since_round": found.age_seconds, "lagging": lagging}


def _snapshots() -> Check:
    return {"ok": process().store.loaded, "serves": True} | process().store.describe()


def _champions() -> Check:
    missing = process().store.champions_not_loaded()
    return {"ok": not missing, "serves": True, "not_loaded": missing}


def _challengers() -> Check:
    missing = process().store.challengers_not_loaded()
    return {"ok": not missing, "not_loaded": missing}


_OF_THE_DATABASE = frozenset({"migrations"})
_CHECKS: dict[str, Callable[[], Check]] = {
    "database": _database,
    "migrations": _migrations,
    "redis": _redis,
    "learner": _learner,
    "snapshots": _snapshots,
    "champions": _champions,
    "challengers": _challengers,
}
