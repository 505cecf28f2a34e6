"""Endpoints and experiments as documents of the API."""

from datetime import datetime
from typing import Any

import msgspec

from noregret.experiments.document import policy_document
from noregret.experiments.models import Baseline, ChampionChange, Endpoint, Experiment
from noregret.learning.baseline_figures import figures
from noregret.learning.kept import rows_from
from noregret.rollout.warnings import warnings_of


def time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def endpoint(row: Endpoint) -> dict[str, Any]:
    return {
        "id": row.pk,
        "name": row.name,
        "champion": row.champion.model,
        "deadline_ms": row.deadline_ms,
        "sticky": row.sticky,
        "record": row.record,
        "reward": row.reward,
        "policy_version": row.policy_version,
        "created_at": time(row.created_at),
    }


def baseline(row: Baseline) -> dict[str, Any]:
    return {"id": row.pk, **msgspec.to_builtins(figures(row))}


def champion_change(row: ChampionChange) -> dict[str, Any]:
    return {
        "id": row.pk,
        "at": time(row.at),
        "champion": row.champion.model,
        "previous": None if row.previous is None else row.previous.model,
        "experiment": None if row.experiment is None else row.experiment.name,
        "actor": row.actor,
        "reason": row.reason or None,
        "evidence": row.evidence,
        "rollback": row.undoes_id is not None,
    }


def experiment(row: Experiment) -> dict[str, Any]:
    arms = sorted(row.arms.all(), key=lambda arm: arm.position)
    return {
        "id": row.pk,
        "name": row.name,
        "endpoint": row.endpoint.name,
        "strategy": row.strategy,
        "status": row.status,
        "outcome": row.outcome,
        "promoted_arm": None if row.promoted_arm is None else row.promoted_arm.name,
        "arms": [
            {
                "name": arm.name,
                "model": arm.model.model,
                "weight": arm.weight,
                "payload": arm.payload,
                "cost": arm.cost,
                "is_control": arm.is_control,
                "enabled": arm.enabled,
            }
            for arm in arms
        ],
        "policy": policy_document(row.policy),
        "reward": row.reward,
        "promotion": row.promotion,
        "context": row.context,
        "canary": row.canary,
        "shadow": row.shadow,
        "guardrails": row.guardrails,
        "schedule": row.schedule,
        "sticky": row.sticky,
        "holdout": row.holdout,
        "apprentice": row.apprentice,
        "warnings": warnings_of(row),
        "created_at": time(row.created_at),
        "started_at": time(row.started_at),
        "ended_at": time(row.ended_at),
        "rows_from": time(rows_from(row)),
    }
