"""Can this process serve? What each check found, told together.

What a load balancer can mend by asking another process takes this one out: snapshots never read, a
champion that is not loaded. A server that is away, a learner that is silent, a challenger that does
not load are told, and take nobody out: every process would fail alike, and the last snapshot serves
on. A process with more to look after has more checks (noregret.operations).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from .bounded_connection import within
from .ledger.rewards import LedgerUnavailable
from .process import process

ANSWER_SECONDS = 1.0
"""A probe waits no longer for each answer of PostgreSQL: who asks has a limit of its own, of a few
seconds."""

Check = dict[str, Any]
"""`ok`: is it well? `serves`: where it is not, can this process not serve?"""
Checks = Mapping[str, Callable[[], Check]]


def answer(checks: Checks, *, strict: bool) -> tuple[int, bytes]:
    """Status and JSON body. 200 while the process can serve; with `strict` 503 for anything that is
    wrong."""
    found: dict[str, Check] = {}
    with within(ANSWER_SECONDS):
        for name, check in checks.items():
            is_known = name not in _OF_THE_DATABASE or found["database"]["ok"]
            found[name] = _run(check if is_known else _unknown)
    serves = all(check["ok"] or not check["serves"] for check in found.values())
    well = all(check["ok"] for check in found.values())
    status = "ready" if well else "ready, with troubles" if serves else "not ready"
    good = well if strict else serves
    return 200 if good else 503, msgspec.json.encode({"status": status, "checks": found})


def _run(check: Callable[[], Check]) -> Check:
    start = time.perf_counter()
    try:
        found = check()
    except (DatabaseError, LedgerUnavailable, redis.RedisError, OSError, ImproperlyConfigured) as error:
        found = {"ok": False, "problem": str(error).strip().splitlines()[0] if str(error) else type(error).__name__}
    return {"serves": False} | found | {"ms": round((time.perf_counter() - start) * 1000, 1)}


def _unknown() -> Check:
    return {"ok": False, "problem": "nobody knows while the database is away"}


_OF_THE_DATABASE = frozenset({"migrations"})
"""Checks that ask the database alone: while it is away they are not made."""


def _snapshots() -> Check:
    return {"ok": process().store.loaded, "serves": True} | process().store.describe()


def _champions() -> Check:
    missing = process().store.champions_not_loaded()
    return {"ok": not missing, "serves": True, "not_loaded": missing}


def _challengers() -> Check:
    missing = process().store.challengers_not_loaded()
    return {"ok": not missing, "not_loaded": missing}


OF_SNAPSHOTS: Checks = {"snapshots": _snapshots, "champions": _champions, "challengers": _challengers}


def _database() -> Check:
    """It takes a reward as feedback would bring it."""
    process().rewards.probe()
    return {"ok": True}


def _redis() -> Check:
    """As the thread that reads snapshots finds it, a few times a second."""
    return {"ok": process().store.redis_is_within_reach}


def _learner() -> Check:
    """As this process hears of it."""
    watch = process().store.learner
    lagging = {name: {"seconds": lag.seconds, "why": lag.why} for name, lag in watch.lagging.items()}
    silent = watch.silent_seconds
    return {
        "ok": silent <= settings.LEARNER_DEAD_SECONDS and not lagging,
        "seconds_since_round": round(silent, 1),
        "lagging": lagging,
    }


OF_DATA_PLANE: Checks = {"database": _database, "redis": _redis, "learner": _learner, **OF_SNAPSHOTS}
"""Of a process without the control plane."""
