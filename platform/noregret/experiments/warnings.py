"""What an experiment is allowed to do and its owner should know of, in sentences. Reads its document alone."""

from bandits.policies import make

from .models import Experiment


def warnings_of(experiment: Experiment) -> list[str]:
    """The sentences, in no order that matters; none where nothing is to be told."""
    return [*_of_promotion(experiment)]


def _of_promotion(experiment: Experiment) -> list[str]:
    if experiment.strategy not in (Experiment.Strategy.AB, Experiment.Strategy.BANDIT):
        return []
    if not (experiment.promotion or {}).get("auto", False):
        return []
    said = []
    reward, policy = experiment.reward, experiment.policy
    if reward["kind"] != "binary" and reward["default"] is None:
        said.append(
            f"promotion.auto: nothing is promoted by itself while reward.default is null and the reward is {_a(reward['kind'])}: "
            "arms may be answered unevenly, and only a default makes their means comparable"
        )
    made = None if policy is None else make(policy["name"], **policy["params"])
    if made is not None and made.memory.forgets:
        said.append(
            "promotion.auto: the policy forgets because the world may change, and a promotion is for good: the arm that is best now may "
            "be promoted before it is no longer best"
        )
    if made is not None and made.contextual:
        said.append(
            "promotion.auto: the policy chooses by the request's features, and a promotion gives every request the same arm: the results' "
            "segments tell what that would lose"
        )
    return said


def _a(kind: str) -> str:
    return {"continuous": "a number", "count": "a count"}[kind]
