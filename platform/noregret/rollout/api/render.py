"""Endpoints and experiments as documents of the API: their types, and how rows are shown as
them."""

from typing import Any, cast

import msgspec

from noregret.experiments import batches, caching, document, models, stored
from noregret.experiments.batches import Batch
from noregret.experiments.caching import Cache
from noregret.experiments.document import Outcome, Status, Strategy
from noregret.learning.baseline_figures import BaselineFigures, figures
from noregret.learning.kept import rows_from
from noregret.rollout.warnings import warnings_of
from serving.times import Time


class Endpoint(msgspec.Struct, frozen=True):
    """The stable name that clients call."""

    id: int
    name: str
    champion: str
    deadline_ms: int
    sticky: bool
    record: float
    reward: document.Reward | None
    cache: Cache | None
    batch: Batch | None
    policy_version: int
    created_at: Time


class Baseline(BaselineFigures, kw_only=True, frozen=True):
    """What a champion has shown while no experiment ran."""

    id: int


class ChampionChange(msgspec.Struct, frozen=True):
    """A model version's accession as champion, and the evidence for it."""

    id: int
    at: Time
    champion: str
    previous: str | None
    experiment: str | None
    actor: str
    reason: str | None
    evidence: dict[str, Any]
    rollback: bool


class ExperimentArm(msgspec.Struct, frozen=True):
    """A model version's seat, as it is now."""

    name: str
    model: str
    weight: float | None
    payload: Any
    cost: float
    is_control: bool
    enabled: bool


class ExperimentState(msgspec.Struct, frozen=True):
    """One rollout on an endpoint. `rows_from`: decisions before it were dropped from the ledger
    (null: none); their sums are kept. `revision`: how often the draft was changed."""

    id: int
    name: str
    endpoint: str
    strategy: Strategy
    status: Status
    outcome: Outcome | None
    promoted_arm: str | None
    arms: list[ExperimentArm]
    policy: document.Policy | None
    reward: document.Reward
    promotion: document.Promotion
    context: document.Context | None
    canary: document.Canary | None
    shadow: document.Shadow | None
    guardrails: list[document.Guardrail]
    schedule: document.Schedule | None
    sticky: bool
    holdout: float
    apprentice: bool
    edge_evidence: bool
    edge_exclusions: bool
    warnings: list[str]
    revision: int
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    rows_from: Time | None


def endpoint(row: models.Endpoint) -> Endpoint:
    return Endpoint(
        id=row.pk,
        name=row.name,
        champion=row.champion.model,
        deadline_ms=row.deadline_ms,
        sticky=row.sticky,
        record=row.record,
        reward=None if row.reward is None else stored.reward(row.reward),
        cache=caching.cache(row.cache),
        batch=batches.batch(row.batch),
        policy_version=row.policy_version,
        created_at=row.created_at,
    )


def baseline(row: models.Baseline) -> Baseline:
    return Baseline(id=row.pk, **msgspec.structs.asdict(figures(row)))


def champion_change(row: models.ChampionChange) -> ChampionChange:
    return ChampionChange(
        id=row.pk,
        at=row.at,
        champion=row.champion.model,
        previous=None if row.previous is None else row.previous.model,
        experiment=None if row.experiment is None else row.experiment.name,
        actor=row.actor,
        reason=row.reason or None,
        evidence=row.evidence,
        rollback=row.undoes_id is not None,
    )


def _arm(arm: models.Arm) -> ExperimentArm:
    return ExperimentArm(
        name=arm.name,
        model=arm.model.model,
        weight=arm.weight,
        payload=arm.payload,
        cost=arm.cost,
        is_control=arm.is_control,
        enabled=arm.enabled,
    )


def experiment(row: models.Experiment) -> ExperimentState:
    return ExperimentState(
        id=row.pk,
        name=row.name,
        endpoint=row.endpoint.name,
        strategy=cast("Strategy", row.strategy),
        status=cast("Status", row.status),
        outcome=cast("Outcome | None", row.outcome),
        promoted_arm=None if row.promoted_arm is None else row.promoted_arm.name,
        arms=[_arm(arm) for arm in sorted(row.arms.all(), key=lambda arm: arm.position)],
        policy=None if row.policy_ is None else row.policy_.document,
        reward=row.reward_,
        promotion=row.promotion_,
        context=None if row.context is None else row.context_,
        canary=row.canary_,
        shadow=row.shadow_,
        guardrails=row.guardrails_,
        schedule=None if row.schedule is None else row.schedule_,
        sticky=row.sticky,
        holdout=row.holdout,
        apprentice=row.apprentice,
        edge_evidence=row.edge_evidence,
        edge_exclusions=row.edge_exclusions,
        warnings=warnings_of(row),
        revision=row.revision,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        rows_from=rows_from(row),
    )
