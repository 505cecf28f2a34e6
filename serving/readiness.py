"""Can this process serve? What both planes' probes look at, and how it is told.

`ok`: is it well? `serves`: where it is not, can this process not serve? Only what another process
would do better takes this one out.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import redis
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from .bounded_connection import within
from .ledger.rewards import LedgerUnavailable
from .process import process

ANSWER_SECONDS = 1.0
"""A probe waits no longer for each answer of PostgreSQL: who asks has a limit of its own, of a few
seconds."""

Check = dict[str, Any]


def snapshots() -> Check:
    return {"ok": process().store.loaded, "serves": True} | process().store.describe()


def champions() -> Check:
    missing = process().store.champions_not_loaded()
    return {"ok": not missing, "serves": True, "not_loaded": missing}


def challengers() -> Check:
    missing = process().store.challengers_not_loaded()
    return {"ok": not missing, "not_loaded": missing}


def told(
    checks: Mapping[str, Callable[[], Check]], *, strict: bool, of_database: Collection[str] = ()
) -> tuple[int, dict[str, Any]]:
    """The status of the answer and its document; `strict`: 503 for anything that is wrong.

    `of_database` names those that only PostgreSQL could tell: while the check `database` before
    them says that it is away, they are not asked.
    """
    results: dict[str, Check] = {}
    with within(ANSWER_SECONDS):
        for name, check in checks.items():
            is_known = name not in of_database or results["database"]["ok"]
            results[name] = _run(check if is_known else _unknown)
    serves = all(result["ok"] or not result["serves"] for result in results.values())
    well = all(result["ok"] for result in results.values())
    status = "ready" if well else "ready, with troubles" if serves else "not ready"
    return 200 if (well if strict else serves) else 503, {"status": status, "checks": results}


def _unknown() -> Check:
    return {"ok": False, "problem": "nobody knows while the database is away"}


def _run(check: Callable[[], Check]) -> Check:
    start = time.perf_counter()
    try:
        result = check()
    except (DatabaseError, LedgerUnavailable, redis.RedisError, OSError, ImproperlyConfigured) as error:
        result = {"ok": False, "problem": str(error).strip().splitlines()[0] if str(error) else type(error).__name__}
    return {"serves": False} | result | {"ms": round((time.perf_counter() - start) * 1000, 1)}
