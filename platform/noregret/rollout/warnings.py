"""What is allowed in an experiment and yet not what most people mean: a plain sentence each, shown
where the experiment is.

One small function a warning, listed in `_WARNINGS`. Nothing here refuses anything: what is wrong is
refused when it is created.
"""

from collections.abc import Callable, Sequence

from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import looks_at_requests, made_policy
from noregret.experiments.rewards import reward_model

from .futility import FUTILE
from .passed_limits import passed_already
from .setups import Caution, Setup

Warn = Callable[[Experiment], str | None]

FLOORS_AT_MOST = 0.2
"""The share of traffic that the floors of all arms may take before it is told."""
LEAST_LEFT = 0.1
"""Of the traffic: with less for the policy there is hardly anything to learn for."""


def floors_take_much(setup: Setup) -> Caution | None:
    """The policy chooses with what the floors leave: with 100 arms of at least 1 % each nothing is
    left."""
    policy = setup.experiment.policy_
    floor, arms = 0.0 if policy is None else policy.floor, len(setup.arms)
    taken = floor * arms
    if taken <= FLOORS_AT_MOST + 1e-9:
        return None
    left = 1.0 - taken
    leave = f"{left:.0%}" if left >= 0.005 else "nothing"
    return Caution(
        f"{arms} arms with a floor of {floor:.2%} each take {taken:.0%} of the traffic whatever is learned, "
        f"and leave {leave} to the policy: a smaller floor earns more.",
        grave=left < LEAST_LEFT,
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


def has_no_leader(experiment: Experiment) -> str | None:
    """Where features choose the arm none leads, so there is none to promote at the end."""
    if not looks_at_requests(experiment) or experiment.schedule_.at_end != "promote_leader":
        return None
    return (
        "schedule.at_end: the policy chooses by the request's features, so no arm leads, and at its end the experiment is stopped "
        "unless the evidence promotes an arm"
    )


def nothing_can_be_shown(experiment: Experiment) -> str | None:
    """Without bounds no evidence is counted, so nobody is ever recommended."""
    strategies = (Experiment.Strategy.AB, Experiment.Strategy.BANDIT)
    compared = experiment.strategy in strategies and not experiment.apprentice and not looks_at_requests(experiment)
    if not compared or reward_model(experiment).bounds is not None:
        return None
    missing = "maximum" if experiment.reward_.maximum is None else "minimum"
    return (
        f"reward.{missing}: without a minimum and a maximum no evidence is counted, so no arm is ever recommended: "
        "give both, or promote by hand"
    )


_WARNINGS: tuple[Warn, ...] = (
    nothing_can_be_shown,
    silence_is_no_outcome,
    promotes_though_it_forgets,
    promotes_one_for_all,
    has_no_leader,
)


def cautions_of(experiment: Experiment, arms: Sequence[Arm] | None = None) -> list[Caution]:
    """Every warning of an experiment; empty where there is nothing to say. `arms`: those of rows
    that are not saved."""
    seated = sorted(experiment.arms.all() if arms is None else arms, key=lambda arm: arm.position)
    setup = Setup(experiment, [arm for arm in seated if arm.enabled])
    found = [floors_take_much(setup), *(futile(setup) for futile in FUTILE)]
    told = [Caution(said) for warn in _WARNINGS if (said := warn(experiment)) is not None]
    return [*(caution for caution in found if caution is not None), *passed_already(setup), *told]


def warnings_of(experiment: Experiment) -> list[str]:
    """Every warning, a sentence each."""
    return [caution.said for caution in cautions_of(experiment)]
