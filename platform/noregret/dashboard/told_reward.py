"""Which reward an endpoint's mean is told of, and with it whether the mean is a rate."""

from collections.abc import Iterable, Sequence

from django.db.models import Q

from noregret.experiments import stored
from noregret.experiments.baselines import UNDECLARED
from noregret.experiments.document import Reward
from noregret.experiments.models import Endpoint, Experiment

BEGUN = (Experiment.Status.RUNNING, Experiment.Status.PAUSED)


def told_rewards(endpoints: Sequence[Endpoint]) -> dict[int, Reward]:
    """By endpoint's id: that of what runs, or else the endpoint's own, or else that of its last
    experiment. One query."""
    started = Experiment.objects.filter(endpoint__in=endpoints, started_at__isnull=False)
    newest = started.alias(is_begun=Q(status__in=BEGUN)).order_by("endpoint_id", "-is_begun", "-started_at")
    experiments = {row.endpoint_id: row for row in newest.distinct("endpoint_id")}
    return {endpoint.pk: _reward(endpoint, experiments.get(endpoint.pk)) for endpoint in endpoints}


def _reward(endpoint: Endpoint, experiment: Experiment | None) -> Reward:
    if endpoint.reward and (experiment is None or experiment.status not in BEGUN):
        return stored.reward(endpoint.reward)
    return UNDECLARED if experiment is None else experiment.reward_


def tells_rates(reward: Reward, means: Iterable[float]) -> bool:
    """Are these means rates? Feedback without an experiment may have been any number, where the
    endpoint names no reward."""
    return reward.kind == "binary" and all(0.0 <= mean <= 1.0 for mean in means)
