"""Traffic that already happened: decisions in the stream and rewards in the ledger, as the hot path
would have left them."""

import os
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.redis_client import client, keys

from serving.ledger import events
from serving.models import Reward

WINDOW = {"reward": {"kind": "binary", "window_seconds": 1}}


def decide(
    experiment: Experiment,
    arm: str,
    *,
    seconds_ago: float = 60.0,
    at: datetime | None = None,
    share: float = 0.5,
    unit: str | None = None,
    latency_ms: float = 1.0,
    failed: bool = False,
    context: dict[str, Any] | None = None,
    shares: list[float] | None = None,
    holdout: bool = False,
    proposed: int | None = None,
    excluded: list[int] | None = None,
    cached: bool = False,
) -> bytes:
    """Append a decision to the stream as a web process would have, some time ago; its id."""
    at = at or timezone.now() - timedelta(seconds=seconds_ago)
    identity = int(at.timestamp() * 1e6).to_bytes(8, "big") + os.urandom(8)
    chosen = experiment.arms.get(name=arm)
    shares = shares or [share if other.pk == chosen.pk else 1 - share for other in experiment.arms.order_by("position")]
    event = events.DecisionEvent(
        events.VERSION, identity, experiment.pk, chosen.pk, shares, share, 1, unit, context, None, latency_ms,
        "error" if failed else None, holdout, proposed, excluded, cached=cached,
    )  # fmt: skip
    client().xadd(keys().decisions(experiment.endpoint.name), {"d": events.encode(event)})
    return identity


def reward(
    experiment: Experiment, arm: str, identity: bytes, value: float, *, delay: float = 0.0, metric: str = "reward"
) -> None:
    """Write a reward that came `delay` seconds after its decision, within its window."""
    Reward.objects.create(
        decision_id=UUID(bytes=identity),
        decided_at=decided_at(identity),
        metric=metric,
        experiment_id=experiment.pk,
        arm_id=experiment.arms.get(name=arm).pk,
        value=value,
        recorded_at=decided_at(identity) + timedelta(seconds=delay),
    )


def decided_at(identity: bytes) -> datetime:
    """The time that a decision id holds, to the microsecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int.from_bytes(identity[:8], "big"))


def begin_earlier(experiment: Experiment, seconds: float = 3600.0) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(started_at=timezone.now() - timedelta(seconds=seconds))
    experiment.refresh_from_db()


def fill(experiment: Experiment, counts: dict[str, tuple[int, int]]) -> None:
    """Decisions with rewards, {arm: (ones, zeros)}, spread over three seconds in an order that only
    the seed decides.

    Mixed, as a random draw would leave them: intervals and evidence rest on that, and an arm whose
    ones all came first would be judged by where the buckets happen to be cut.
    """
    outcomes = [
        (arm, value)
        for arm, pair in counts.items()
        for value, n in zip((1.0, 0.0), pair, strict=True)
        for _ in range(n)
    ]
    random.Random(7).shuffle(outcomes)
    begun = timezone.now() - timedelta(seconds=120)
    for i, (arm, value) in enumerate(outcomes):
        at = begun + timedelta(seconds=3.0 * i / len(outcomes))
        identity = decide(experiment, arm, at=at)
        reward(experiment, arm, identity, value)
