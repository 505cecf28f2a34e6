"""Can this process serve? What both planes' probes look at, and how it is told.

`ok`: is it well? `serves`: where it is not, can this process not serve? Only what another process
would do better takes this one out.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import redis
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from .ledger.rewards import LedgerUnavailable
from .process import process

Check = dict[str, Any]


def snapshots() -> Check:
    return {"ok": process().store.loaded, "serves": True} | process().store.describe()


def champions() -> Check:
    missing = process().store.champions_not_loaded()
    return {"ok": not missing, "serves": True, "not_loaded": missing}


def challengers() -> Check:
    missing = process().store.challengers_not_loaded()
    return {"ok": not missing, "not_loaded": missing}


def told(checks: Mapping[str, Callable[[], Check]], *, strict: bool) -> tuple[int, dict[str, Any]]:
    """The status of the answer and its document; `strict`: 503 for anything that is wrong."""
    results = {name: _run(check) for name, check in checks.items()}
    serves = all(result["ok"] or not result["serves"] for result in results.values())
    well = all(result["ok"] for result in results.values())
    status = "ready" if well else "ready, with troubles" if serves else "not ready"
    return 200 if (well if strict else serves) else 503, {"status": status, "checks": results}


def _run(check: Callable[[], Check]) -> Check:
    start = time.perf_counter()
    try:
        result = check()
    except (DatabaseError, LedgerUnavailable, redis.RedisError, OSError, ImproperlyConfigured) as error:
        result = {"ok": False, "problem": str(error).strip().splitlines()[0] if str(error) else type(error).__name__}
    return {"serves": False} | result | {"ms": round((time.perf_counter() - start) * 1000, 1)}
