"""An experiment's reward as policies and inference know it, and when it is learned."""

from bandits.reward import RewardModel

from .document import Reward
from .models import Experiment


def reward_model(experiment: Experiment) -> RewardModel:
    reward = experiment.reward_
    return RewardModel(reward.kind, reward.direction, reward.minimum, reward.maximum)


def learned_when_matured(reward: Reward) -> bool:
    """Must a reward wait until its decision's bucket is closed?

    Where silence has a meaning (a `default`), feedback on open decisions is one kind of outcome
    only, clicks without the misses: learned at once, every arm would look better than it is, and a
    fast one better than a slow one. With `pending: exposure` it is learned at once and corrected by
    how many of the open decisions could have answered by now.
    """
    return reward.default is not None and reward.pending == "ignore"
