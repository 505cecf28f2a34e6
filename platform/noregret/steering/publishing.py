"""When what was learned reaches the traffic: at once, or when the policy version in force has made
enough decisions.

Binary rewards are weighed within strata of one allocation. A version that stands for two decisions
makes strata of two, which hold no evidence, so a bandit's version stays until it has made ten
decisions an arm, or for a bounded time where traffic is slow. What a batch of that size costs in
regret is far below what a promotion gains. A version that has decided nothing yet may be replaced
at once.
"""

from datetime import datetime, timedelta

from django.db.models import F, Sum

from noregret.experiments.models import Endpoint, Experiment
from noregret.learning import clock
from noregret.learning.evidence import rule_of
from noregret.learning.models import SUMS, ArmStatistics, ExperimentEvidence, without_sums
from noregret.rollout.publish import publish_endpoint_on_commit

DECISIONS_AN_ARM = 10
# However slow the traffic: no longer than a share of the window (what is learned comes so late
# anyway) and of the experiment's age.
_SHARE_OF_WINDOW = 1.0 / 4.0
_SHARE_OF_AGE = 1.0 / 20.0
_LEAST = timedelta(seconds=2)
_MOST = timedelta(hours=1)


def longest_in_force(experiment: Experiment, now: datetime) -> timedelta:
    """For how long a version stays that does not come to its decisions."""
    window = timedelta(seconds=experiment.reward_.window_seconds)
    age = now - (experiment.started_at or now)
    return max(min(window * _SHARE_OF_WINDOW, age * _SHARE_OF_AGE, _MOST), _LEAST)


def learned(experiment: Experiment) -> None:
    """Something new was learned: publish it, or remember that it is to be. In the transaction that
    learns."""
    # Under the endpoint's lock, which every transition takes too: a resumption beside this one is
    # seen here, or sees what was learned.
    Endpoint.objects.select_for_update().get(pk=experiment.endpoint_id)
    if not Experiment.objects.filter(pk=experiment.pk, status=Experiment.Status.RUNNING).exists():
        return
    held = ExperimentEvidence.objects.select_for_update().defer(*SUMS).get(experiment=experiment)
    decisions = _decisions(experiment)
    now = clock.now()
    rows = ExperimentEvidence.objects.filter(pk=held.pk)
    if not _is_due(experiment, held, decisions, now):
        rows.update(unpublished=True)
        return
    rows.update(unpublished=False, published_at=now, published_decisions=decisions)
    publish_endpoint_on_commit(experiment.endpoint_id)


def overdue() -> set[int]:
    """Endpoints with something learned whose version has been in force for long enough."""
    now = clock.now()
    waiting = Experiment.objects.filter(status=Experiment.Status.RUNNING, evidence__unpublished=True)
    return {experiment.endpoint_id for experiment in without_sums(waiting) if _is_overdue(experiment, now)}


def _is_overdue(experiment: Experiment, now: datetime) -> bool:
    try:
        return _has_stood_long_enough(experiment, experiment.evidence, now)
    except Exception:  # a damaged row: its own round says what is wrong
        return True


def catch_up(experiment: Experiment) -> None:
    """Publish what waits, once it is due. In a transaction."""
    if ExperimentEvidence.objects.filter(experiment=experiment, unpublished=True).exists():
        learned(experiment)


def _decisions(experiment: Experiment) -> int:
    total = ArmStatistics.objects.filter(arm__experiment=experiment).aggregate(total=Sum(F("decisions")))["total"]
    return int(total or 0)


def _is_due(experiment: Experiment, held: ExperimentEvidence, decisions: int, now: datetime) -> bool:
    if experiment.strategy != Experiment.Strategy.BANDIT or rule_of(experiment) != "conditional":
        return True
    made = decisions - held.published_decisions
    enough = DECISIONS_AN_ARM * experiment.arms.filter(enabled=True).count()
    return made <= 0 or made >= enough or _has_stood_long_enough(experiment, held, now)


def _has_stood_long_enough(experiment: Experiment, held: ExperimentEvidence, now: datetime) -> bool:
    return held.published_at is None or now - held.published_at >= longest_in_force(experiment, now)
