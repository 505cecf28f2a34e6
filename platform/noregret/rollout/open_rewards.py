"""What feedback on an endpoint's decisions is, as long as it can come: of its experiments and of
its baselines."""

from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from noregret.experiments.baselines import reward_of
from noregret.experiments.document import Reward
from noregret.experiments.models import Endpoint, Experiment
from serving import snapshot

# Feedback may come until its window closes; so long the reward of what has ended stays in the
# snapshot, and a little longer.
_AFTER_WINDOW = timedelta(minutes=5)
_LONGEST = timedelta(days=91)


def reward_document(experiment: Experiment) -> snapshot.Reward:
    guardrails = sorted({guardrail.metric for guardrail in experiment.guardrails_})
    return _document(experiment.pk, experiment.name, experiment.reward_, guardrails)


def open_rewards(endpoint: Endpoint) -> list[snapshot.Reward]:
    """Those whose windows can still be open."""
    now = timezone.now()
    recent = Q(ended_at__isnull=True) | Q(ended_at__gt=now - _LONGEST)
    rewards = [
        reward_document(experiment)
        for experiment in endpoint.experiments.filter(recent, started_at__isnull=False)
        if _is_open(experiment.reward_, experiment.ended_at, now)
    ]
    for baseline in endpoint.baselines.filter(recent).order_by("pk"):
        reward = reward_of(baseline)
        if _is_open(reward, baseline.ended_at, now):
            rewards.append(_document(baseline.pk, "", reward, [], declared=baseline.reward is not None))
    return rewards


def _is_open(reward: Reward, ended_at: datetime | None, now: datetime) -> bool:
    return ended_at is None or ended_at + timedelta(seconds=reward.window_seconds) + _AFTER_WINDOW > now


def _document(
    number: int, name: str, reward: Reward, guardrails: list[str], *, declared: bool = True
) -> snapshot.Reward:
    return snapshot.Reward(
        experiment_id=number,
        experiment=name,
        metric=reward.metric,
        kind=reward.kind,
        direction=reward.direction,
        window_seconds=reward.window_seconds,
        minimum=reward.minimum,
        maximum=reward.maximum,
        declared=declared,
        guardrails=guardrails,
    )
