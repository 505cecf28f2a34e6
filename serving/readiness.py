"""Can this process serve? What both planes' probes look at, and how it is told.

`ok`: is it well? `serves`: where it is not, can this process not serve? Only what another process
would do better takes this one out.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from django.db import Error as DatabaseTrouble

from .bounded_connection import within
from .ledger.rewards import LedgerUnavailable
from .process import CannotServe, process

ANSWER_SECONDS = 1.0
"""A probe waits no longer for each answer of PostgreSQL: who asks has a limit of its own, of a few
seconds."""

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """`look` says what is found; what it raises is a finding, too."""

    look: Callable[[], Found]
    takes_out: bool = False
    """Where it is not well, or not known to be, can this process not serve?"""
    of_database: bool = False
    """Only PostgreSQL could tell: while it is away nobody knows, and that takes nobody out."""


def _snapshots() -> Found:
    return {"ok": process().store.loaded} | process().store.describe()


def _champions() -> Found:
    missing = process().store.champions_not_loaded()
    return {"ok": not missing, "not_loaded": missing}


def _challengers() -> Found:
    missing = process().store.challengers_not_loaded()
    return {"ok": not missing, "not_loaded": missing}


OF_THE_STORE = {
    "snapshots": Check(_snapshots, takes_out=True),
    "champions": Check(_champions, takes_out=True),
    "challengers": Check(_challengers),
}


def told(checks: Mapping[str, Check], *, strict: bool) -> tuple[int, dict[str, Any]]:
    """The status of the answer and its document; `strict`: 503 for anything that is wrong.

    Once a check has found PostgreSQL away, those after it that ask it alone are spared.
    """
    results: dict[str, Found] = {}
    is_away = False
    with within(ANSWER_SECONDS):
        for name, check in checks.items():
            start = time.perf_counter()
            weight = {"serves": check.takes_out}
            try:
                found = _AWAY if is_away and check.of_database else weight | check.look()
            except DatabaseTrouble as error:
                is_away = True
                found = _AWAY if check.of_database else weight | _problem(error)
            except Exception as error:  # whatever a driver or a storage's library raises
                found = weight | _problem(error)
            results[name] = found | {"ms": round((time.perf_counter() - start) * 1000, 1)}
    serves = all(result["ok"] or not result["serves"] for result in results.values())
    well = all(result["ok"] for result in results.values())
    status = "ready" if well else "ready, with troubles" if serves else "not ready"
    return 200 if (well if strict else serves) else 503, {"status": status, "checks": results}


_AWAY: Found = {"serves": False, "ok": False, "problem": "nobody knows while the database is away"}


def _problem(error: Exception) -> Found:
    """Not known to be well is not well."""
    said = error.cause if isinstance(error, CannotServe) else str(error)
    told = said.strip().splitlines()[0] if said.strip() else ""
    if not told or not isinstance(error, (CannotServe, DatabaseTrouble, LedgerUnavailable, redis.RedisError, OSError)):
        told = f"{type(error).__name__}: {told}" if told else type(error).__name__
    return {"ok": False, "problem": told}
