"""Results and settings of experiments that were never run, for what is made from them alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from noregret.dashboard.verdicts import Setting
from noregret.learning.health import LearnerState
from noregret.learning.shown.latencies import Latency
from noregret.learning.shown.results import (
    Comparison,
    EvidenceProgress,
    Recommendation,
    Results,
    ResultsArm,
)

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def arm(name: str, **told: Any) -> ResultsArm:
    known: dict[str, Any] = dict.fromkeys(ResultsArm.__struct_fields__)
    known |= {
        "name": name,
        "model": f"page@{name}",
        "enabled": True,
        "is_control": False,
        "decisions": 1000,
        "rewards": 1000,
        "mean_basis": "served",
        "latency_ms": Latency(None, None),
        "error_rate": 0.0,
    }
    return ResultsArm(**(known | told))


def results(*arms: ResultsArm, **told: Any) -> Results:
    """Of a running bandit whose first arm is the control, unless it is told otherwise; `leader`,
    `value`, `needed` and `matured` are of its evidence, `action`, `to` and `reason` of its
    recommendation."""
    known: dict[str, Any] = dict.fromkeys(Results.__struct_fields__)
    recommended = Recommendation(
        told.pop("action", "continue"), told.pop("to", None), told.pop("reason", "b leads, P(best) 97.0%: evidence")
    )
    evidence = EvidenceProgress(
        told.pop("leader", None), told.pop("value", None), told.pop("needed", None), told.pop("matured", 0)
    )
    known |= {
        "experiment": "e",
        "strategy": "bandit",
        "status": "running",
        "as_of": NOW,
        "policy_version": 3,
        "decisions": sum(one.decisions for one in arms),
        "rewards": sum(one.rewards for one in arms),
        "arms": [msgspec.structs.replace(one, is_control=not i) for i, one in enumerate(arms)],
        "comparison": Comparison(0.5, None, None, None),
        "evidence": evidence,
        "guardrails": [],
        "learner": LearnerState(True, 1.0, 0.0, None, 0),
        "recommendation": recommended,
    }
    return Results(**(known | told))


def setting(**told: Any) -> Setting:
    known: dict[str, Any] = {
        "endpoint": "pages",
        "champion": "page@a",
        "window_seconds": 3600.0,
        "started_at": NOW - timedelta(days=5),
        "per_day": 4000.0,
    }
    return Setting(**(known | told))
