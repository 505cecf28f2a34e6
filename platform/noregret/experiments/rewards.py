"""An experiment's reward as policies and inference know it."""

from bandits.reward import RewardModel

from .models import Experiment


def reward_model(experiment: Experiment) -> RewardModel:
    reward = experiment.reward
    return RewardModel(reward["kind"], reward["direction"], reward["minimum"], reward["maximum"])
