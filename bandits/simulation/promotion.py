"""How soon a rule promotes, and how often the wrong arm: many experiments side by side, each with its policy, its log and its evidence.

Between two checks an experiment serves from one snapshot, as the platform does: the probabilities are computed at a check from what was
learned until then, and the decisions of the next stretch draw from them, so the logged propensities are true. Deterministic policies
count their own pulls within the stretch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.belief import believe
from bandits.inference.best_arm import probabilities_best
from bandits.inference.design import counted_log_factors, single_log_factors
from bandits.inference.log_factors import averaged
from bandits.policies import ContextualPolicy, Policy
from bandits.policies.allocation import with_floor
from bandits.policies.index import draw
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .environments import Environment, World
from .regret import policy_of

Rule = Literal["anytime", "probability-best"]


@dataclass(frozen=True, slots=True)
class Promotions:
    """`promoted` (runs,): the position of the promoted arm, or -1. `pulls` (runs,): how many there were then, or the horizon.

    `regret` (runs,): what was lost until then against playing the best arm, in reward units. `correct` (runs,): was the promoted arm best?
    """

    promoted: NDArray[np.int64]
    pulls: NDArray[np.int64]
    regret: Array
    correct: NDArray[np.bool_]


class _Experiments:
    """The experiments that go on: arrays with an axis of experiments first, of which ended ones are dropped."""

    def __init__(self, runs: int, arms: int) -> None:
        self.index = np.arange(runs)
        self.count = np.zeros((runs, arms))
        self.mean = np.zeros((runs, arms))
        self.m2 = np.zeros((runs, arms))
        self.evidence: Array = np.zeros((runs, arms, arms, 5))
        self.regret = np.zeros(runs)
        self.propensities: Array = np.full((runs, arms), 1.0 / arms)

    @property
    def statistics(self) -> ArmStatistics:
        return ArmStatistics(self.count, self.mean, self.m2)

    def add(self, new: ArmStatistics) -> None:
        merged = self.statistics + new
        self.count, self.mean, self.m2 = merged.count, merged.mean, merged.m2

    def keep(self, going: NDArray[np.bool_]) -> None:
        for name in ("index", "count", "mean", "m2", "evidence", "regret", "propensities"):
            setattr(self, name, getattr(self, name)[going])

    def pooled(self, bounds: tuple[float, float]) -> Array:
        """The mean outcome so far, on the scale of [0, 1], with half an observation of each outcome."""
        count, mean, _ = (part[:, 0] for part in self.statistics.pooled())
        scaled = (mean - bounds[0]) / (bounds[1] - bounds[0])
        pooled: Array = (count * scaled + 0.5) / (count + 1.0)
        return pooled


def simulate_promotion(
    policy: str | Policy | ContextualPolicy,
    environment: Environment,
    horizon: int,
    runs: int,
    seed: int,
    params: Mapping[str, Any] | None = None,
    alpha: float = 0.05,
    check_every: int = 100,
    floor: float = 0.01,
    rule: Rule = "anytime",
    threshold: float = 0.95,
    update_every: int | None = None,
) -> Promotions:
    """`runs` experiments of at most `horizon` pulls, checked each `check_every` pulls.

    What was learned reaches the probabilities each `update_every` pulls, a multiple of `check_every`; by default at each check.

    Rule `anytime` promotes an arm when its evidence against every other reaches K / alpha, `probability-best` when P(best) passes
    `threshold`, for comparison. Raises ValueError, for a reward without bounds under `anytime` too.
    """
    made = policy_of(policy, params)
    if made.contextual:
        raise ValueError(f"{made.name} needs features: promotion is simulated for policies without")
    _check(horizon, runs, check_every, alpha, floor, environment.arms, rule)
    reward = environment.reward
    bounds = reward.bounds
    if bounds is None:
        if rule == "anytime":
            raise ValueError("the anytime rule needs rewards with bounds, as bernoulli(...) has")
        bounds = (0.0, 1.0)
    rng = np.random.default_rng(seed)
    world = environment.begin(rng, runs)
    state = _Experiments(runs, environment.arms)
    found = Promotions(np.full(runs, -1), np.full(runs, horizon), np.zeros(runs), np.zeros(runs, dtype=np.bool_))
    update = check_every if update_every is None else update_every
    if update % check_every:
        raise ValueError(f"update_every is {update}: a multiple of check_every, {check_every}, was expected")
    for start in range(0, horizon, check_every):
        steps = range(start, min(start + check_every, horizon))
        if made.counts_own_pulls:
            _counting_stretch(state, made, environment, world, steps, floor, rng, bounds)
        else:
            if start % update == 0:
                state.propensities = with_floor(made.propensities(state.statistics, environment.reward), floor)
            _drawn_stretch(state, environment, world, steps, rng, bounds)
        winner = _winners(state, reward, rule, alpha, threshold)
        going = winner < 0
        ended = state.index[~going]
        best = world.step(steps[-1]).means
        best = np.broadcast_to(best, (len(winner), environment.arms))[~going]
        found.promoted[ended] = winner[~going]
        found.pulls[ended] = steps[-1] + 1
        found.regret[state.index] = state.regret
        found.correct[ended] = best[np.arange(len(best)), winner[~going]] >= best.max(axis=1)
        state.keep(going)
        if not len(state.index):
            break
    return found


def _check(horizon: int, runs: int, check_every: int, alpha: float, floor: float, arms: int, rule: str) -> None:
    for name, value in (("horizon", horizon), ("runs", runs), ("check_every", check_every)):
        checks.whole(name, value, 1)
    checks.number("alpha", alpha, 0.0, 1.0, open_low=True)
    checks.number("floor", floor, 0.0, 1.0 / arms)
    if rule not in ("anytime", "probability-best"):
        raise ValueError(f"rule is {rule!r}: anytime or probability-best was expected")
    if arms < 2:
        raise ValueError("at least two arms were expected")


def _drawn_stretch(
    state: _Experiments,
    environment: Environment,
    world: World,
    steps: range,
    rng: np.random.Generator,
    bounds: tuple[float, float],
) -> None:
    """Decisions drawn from the probabilities of the last update."""
    runs, arms = state.count.shape
    propensities = state.propensities
    means = np.stack([world.step(t).means[0] for t in steps])  # (n, K): simulated promotion has fixed worlds
    arm = draw(np.broadcast_to(propensities[:, None, :], (runs, len(steps), arms)), rng)
    mean = means[np.arange(len(steps)), arm]
    value = environment.draw(rng, mean, arm)
    state.regret += (means.max(axis=1) - mean).sum(axis=1)
    pooled = state.pooled(bounds)
    new = _statistics(arm, value, arms)
    if environment.reward.kind == "binary":
        ones = new.total
        state.evidence += counted_log_factors(ones, new.count - ones, propensities, pooled)
    else:
        outcome = np.clip((value - bounds[0]) / (bounds[1] - bounds[0]), 0.0, 1.0)
        for i in range(len(steps)):
            state.evidence += single_log_factors(arm[:, i], outcome[:, i], propensities, pooled)
    state.add(new)


def _counting_stretch(
    state: _Experiments,
    policy: Policy,
    environment: Environment,
    world: World,
    steps: range,
    floor: float,
    rng: np.random.Generator,
    bounds: tuple[float, float],
) -> None:
    """Decisions one by one: each pull changes the probabilities of the next."""
    runs, arms = state.count.shape
    pulls = np.zeros((runs, arms))
    known, pooled, rows = state.statistics, state.pooled(bounds), np.arange(runs)
    chosen = np.empty((runs, len(steps)), dtype=np.int64)
    values = np.empty((runs, len(steps)))
    for i, t in enumerate(steps):
        propensities = with_floor(policy.propensities(known, environment.reward, pulls), floor)
        arm = draw(propensities, rng)
        means = world.step(t).means[0]
        value = environment.draw(rng, means[arm], arm)
        state.regret += means.max() - means[arm]
        outcome = np.clip((value - bounds[0]) / (bounds[1] - bounds[0]), 0.0, 1.0)
        state.evidence += single_log_factors(arm, outcome, propensities, pooled)
        pulls[rows, arm] += 1.0
        chosen[:, i], values[:, i] = arm, value
    state.add(_statistics(chosen, values, arms))


def _statistics(arm: NDArray[np.int64], value: Array, arms: int) -> ArmStatistics:
    """Statistics (runs, K) of `arm` and `value` (runs, n)."""
    runs = len(arm)
    flat = (arm + arms * np.arange(runs)[:, None]).ravel()
    found = ArmStatistics.from_rewards(flat, value.ravel(), runs * arms)
    return ArmStatistics(*(part.reshape(runs, arms) for part in (found.count, found.mean, found.m2)))


def _winners(state: _Experiments, reward: RewardModel, rule: Rule, alpha: float, threshold: float) -> NDArray[np.int64]:
    """The arm that the rule promotes in each experiment, or -1."""
    arms = state.count.shape[1]
    if rule == "anytime":
        e = averaged(state.evidence)
        e[:, np.arange(arms), np.arange(arms)] = np.inf
        weakest = e.min(axis=2)
        best = weakest.argmax(axis=1)
        enough = weakest[np.arange(len(best)), best] >= arms / alpha
    else:
        probability = probabilities_best(believe(state.statistics, reward).posterior)
        best = probability.argmax(axis=1)
        enough = probability[np.arange(len(best)), best] > threshold
    return np.where(enough, best, -1)
