"""What is allowed in an experiment and yet not what most people mean: a plain sentence each, shown
where the experiment is.

One small function a warning, listed in `_WARNINGS`. Nothing here refuses anything: what is wrong is
refused when it is created.
"""

from collections.abc import Callable

from noregret.experiments.models import Experiment
from noregret.experiments.policies import looks_at_requests, made_policy
from noregret.learning.baseline_figures import present_figures

Warn = Callable[[Experiment], str | None]

LONG_DAYS = 30.0
"""An experiment that can't end before this is told to be long."""
FLOORS_AT_MOST = 0.2
"""The share of traffic that the floors of all arms may take before it is told."""


def floors_take_much(experiment: Experiment) -> str | None:
    """The policy chooses with what the floors leave: with 100 arms of at least 1 % each nothing is
    left."""
    floor = 0.0 if experiment.policy_ is None else experiment.policy_.floor
    arms = sum(arm.enabled for arm in experiment.arms.all())
    taken = floor * arms
    if taken <= FLOORS_AT_MOST + 1e-9:
        return None
    left = f"{1.0 - taken:.0%}" if taken < 1.0 - 1e-9 else "nothing"
    return (
        f"{arms} arms with a floor of {floor:.2%} each take {taken:.0%} of the traffic whatever is learned, "
        f"and leave {left} to the policy: a smaller floor earns more."
    )


def _promotes_by_itself(experiment: Experiment) -> bool:
    strategies = (Experiment.Strategy.AB, Experiment.Strategy.BANDIT)
    return experiment.strategy in strategies and experiment.promotion_.auto


def silence_is_no_outcome(experiment: Experiment) -> str | None:
    """Means of those who answered compare arms only where all are answered alike."""
    kind = experiment.reward_.kind
    if not _promotes_by_itself(experiment) or kind == "binary" or experiment.reward_.default is not None:
        return None
    return (
        f"promotion.auto: nothing is promoted by itself while reward.default is null and the reward is a "
        f"{'number' if kind == 'continuous' else 'count'}: arms may be answered unevenly, and only a default makes their means comparable"
    )


def promotes_though_it_forgets(experiment: Experiment) -> str | None:
    """A promotion is for good, and the policy expects the world to change."""
    made = made_policy(experiment)
    if made is None or not made.memory.forgets or not _promotes_by_itself(experiment):
        return None
    return (
        "promotion.auto: the policy forgets because the world may change, and a promotion is for good: the arm that is best now may "
        "be promoted before it is no longer best"
    )


def promotes_one_for_all(experiment: Experiment) -> str | None:
    """What is best depends on the request, and one arm would serve all of them."""
    if not looks_at_requests(experiment) or not _promotes_by_itself(experiment):
        return None
    return (
        "promotion.auto: the policy chooses by the request's features, and a promotion gives every request the same arm: the results' "
        "segments tell what that would lose"
    )


def takes_long(experiment: Experiment) -> str | None:
    """At the traffic that the champion had, how long until each arm has the rewards that a
    promotion asks for?"""
    least = float(0 if experiment.promotion_ is None else experiment.promotion_.min_rewards)
    if experiment.status != Experiment.Status.DRAFT or not _promotes_by_itself(experiment) or not least:
        return None
    before = present_figures(experiment.endpoint)
    if before is None or not before.decisions_per_day:
        return None
    arms = sum(arm.enabled for arm in experiment.arms.all())
    days = arms * least / before.decisions_per_day
    if days < LONG_DAYS:
        return None
    return (
        f"{before.champion} gets about {before.decisions_per_day:,.0f} decisions a day: until each of {arms} arms has "
        f"{least:,.0f} rewards, which promotion.min_rewards asks for, it takes {days:,.0f} days or more"
    )


def has_no_leader(experiment: Experiment) -> str | None:
    """Where features choose the arm none leads, so there is none to promote at the end."""
    if not looks_at_requests(experiment) or experiment.schedule_.at_end != "promote_leader":
        return None
    return (
        "schedule.at_end: the policy chooses by the request's features, so no arm leads, and at its end the experiment is stopped "
        "unless the evidence promotes an arm"
    )


_WARNINGS: tuple[Warn, ...] = (
    floors_take_much,
    silence_is_no_outcome,
    promotes_though_it_forgets,
    promotes_one_for_all,
    has_no_leader,
    takes_long,
)


def warnings_of(experiment: Experiment) -> list[str]:
    """Every warning of an experiment, a sentence each; empty where there is nothing to say."""
    return [said for warn in _WARNINGS if (said := warn(experiment)) is not None]
