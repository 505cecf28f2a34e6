"""What those who run the service ask: does the process live, is it ready, what does it count."""

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

from noregret.learning.health import learner_age_seconds
from noregret.redis_client import client
from serving.process import process

Check = dict[str, Any]


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """GET /healthz: 200 while the process lives. It asks no server: a lost database is no reason to restart a process."""
    return HttpResponse(msgspec.json.encode({"status": "ok"}), content_type="application/json")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """GET /readyz: 200 or 503, with what each check found."""
    checks = {name: _run(check) for name, check in _CHECKS.items()}
    ready = all(check["ok"] for check in checks.values())
    body = {"status": "ready" if ready else "not ready", "checks": checks}
    return HttpResponse(msgspec.json.encode(body), content_type="application/json", status=200 if ready else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """GET /metrics: Prometheus's text form, of all web processes of this machine together."""
    registry = REGISTRY
    if settings.METRICS_DIR is not None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(settings.METRICS_DIR))  # type: ignore[no-untyped-call]  # left untyped there
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """GET /favicon.ico: browsers ask for it whatever a page says; there is none."""
    return HttpResponse(status=204)


def _run(check: Callable[[], Check]) -> Check:
    start = time.perf_counter()
    try:
        found = check()
    except (DatabaseError, redis.RedisError, OSError, ImproperlyConfigured) as error:
        found = {"ok": False, "problem": str(error).strip().splitlines()[0] if str(error) else type(error).__name__}
    return found | {"ms": round((time.perf_counter() - start) * 1000, 1)}


def _database() -> Check:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {"ok": True}


def _migrations() -> Check:
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    return {"ok": missing == 0, "missing": missing}


def _redis() -> Check:
    client().ping()
    return {"ok": True}


def _learner() -> Check:
    age = learner_age_seconds()
    return {"ok": age is not None and age <= settings.LEARNER_DEAD_SECONDS, "seconds_since_round": age}


def _snapshots() -> Check:
    store = process().store
    found = store.describe()
    return {"ok": store.loaded and not found["models_not_loaded"]} | found


_CHECKS: dict[str, Callable[[], Check]] = {
    "database": _database,
    "migrations": _migrations,
    "redis": _redis,
    "learner": _learner,
    "snapshots": _snapshots,
}
