"""An experiment's policy as bandits know it."""

from bandits.policies import ContextualPolicy, Policy, make

from .models import Experiment


def made_policy(experiment: Experiment) -> Policy | ContextualPolicy | None:
    """The bandit's policy; None for a fixed split."""
    policy = experiment.policy_
    return None if policy is None else make(policy.name, **policy.params)


def looks_at_requests(experiment: Experiment) -> bool:
    """Does the policy learn from features, so that which arm is served depends on who asks?"""
    made = made_policy(experiment)
    return made is not None and made.contextual
