"""How soon a rule promotes, and how often the wrong arm: many experiments side by side, each with
its policy, its log and its evidence.

Between two checks an experiment serves from one snapshot, as the platform does: the probabilities
are computed at a check from what was learned until then, and the decisions of the next stretch draw
from them, so the logged propensities are true. Deterministic policies count their own pulls within
the stretch. What one snapshot decided is a stratum, which ends with the snapshot, or at a check
when it has rows enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.belief import believe
from bandits.inference.best_arm import probability_best
from bandits.inference.conditional import summed_log_factors
from bandits.inference.counted import enough
from bandits.inference.log_factors import averaged
from bandits.policies import ContextualPolicy, Policy
from bandits.policies.allocation import with_burn_in, with_floor
from bandits.policies.index import draw
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

from .design_factors import counted_log_factors, single_log_factors
from .environments import Environment, World
from .regret import policy_of

Rule = Literal["anytime", "conditional", "design", "probability-best"]
_RULES = ("anytime", "conditional", "design", "probability-best")


@dataclass(frozen=True, slots=True)
class Promotions:
    """`promoted` (runs,): the position of the promoted arm, or -1. `pulls` (runs,): how many there
    were then, or the horizon.

    `regret` (runs,): what was lost until then against playing the best arm, in reward units.
    `correct` (runs,): was the promoted arm best?
    """

    promoted: NDArray[np.int64]
    pulls: NDArray[np.int64]
    regret: Array
    correct: NDArray[np.bool_]


class _Experiments:
    """The experiments that go on: arrays with an axis of experiments first, of which ended ones are
    dropped."""

    def __init__(self, runs: int, arms: int, rule: Rule, strata: int) -> None:
        self.rule = rule
        self.index = np.arange(runs)
        self.count = np.zeros((runs, arms))
        self.mean = np.zeros((runs, arms))
        self.m2 = np.zeros((runs, arms))
        self.evidence: Array = np.zeros((runs, arms, arms, 5))
        self.regret = np.zeros(runs)
        self.propensities: Array = np.full((runs, arms), 1.0 / arms)
        # Of the snapshot in force: rows and successes by stratum and arm.
        self.open_count = np.zeros((runs, strata, arms), dtype=np.int64)
        self.open_ones = np.zeros((runs, strata, arms), dtype=np.int64)

    @property
    def statistics(self) -> ArmStatistics:
        return ArmStatistics(self.count, self.mean, self.m2)

    def add(self, new: ArmStatistics) -> None:
        merged = self.statistics + new
        self.count, self.mean, self.m2 = merged.count, merged.mean, merged.m2

    def keep(self, going: NDArray[np.bool_]) -> None:
        for name in ("index", "count", "mean", "m2", "evidence", "regret", "propensities", "open_count", "open_ones"):
            setattr(self, name, getattr(self, name)[going])

    def end_strata(self, all_of_them: bool) -> None:
        """Weigh the open strata that have rows enough, or all of them."""
        arms = self.count.shape[1]
        rows = self.open_count.sum(axis=2)
        run, stratum = np.nonzero(rows >= (1 if all_of_them else enough(arms)))
        ones, count = self.open_ones[run, stratum], self.open_count[run, stratum]
        self.evidence += summed_log_factors(ones, count, of=run, experiments=len(self.index))
        self.open_ones[run, stratum] = 0
        self.open_count[run, stratum] = 0

    def pooled(self, bounds: tuple[float, float]) -> Array:
        """The mean outcome so far, on the scale of [0, 1], with half an observation of each
        outcome."""
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
    answered: Sequence[float] | None = None,
    burn_in: float = 0.0,
    min_rewards: int = 0,
) -> Promotions:
    """`runs` experiments of at most `horizon` pulls, checked each `check_every` pulls.

    What was learned reaches the probabilities each `update_every` pulls, a multiple of
    `check_every`; by default at each check.

    `answered` (K,) is each arm's rate of feedback, silence meaning nothing: only answered pulls are
    learned and weighed.

    Rule `anytime` promotes an arm when its evidence against every other reaches K / alpha; as the
    service does, by the `conditional` rule for rewards of 0 and 1 and by the `design` for others
    with bounds. Either can be asked for by name; `probability-best` promotes when P(best) passes
    `threshold`, for comparison. Until an arm has `burn_in` rewards it gets an even share; while any
    has fewer than `min_rewards` nothing is promoted. Raises ValueError, for a reward that the rule
    can't weigh too.
    """
    made = policy_of(policy, params)
    if made.contextual:
        raise ValueError(f"{made.name} needs features: promotion is simulated for policies without")
    _check(horizon, runs, check_every, alpha, floor, environment.arms, rule)
    reward = environment.reward
    rule, bounds = _rule_for(rule, reward, answered is not None)
    rates = None if answered is None else _rates(answered, environment.arms)
    rng = np.random.default_rng(seed)
    world = environment.begin(rng, runs)
    # While a policy counts its own pulls, what it would serve next changes with each: a stratum for
    # each arm that is next.
    state = _Experiments(runs, environment.arms, rule, environment.arms if made.counts_own_pulls else 1)
    found = Promotions(np.full(runs, -1), np.full(runs, horizon), np.zeros(runs), np.zeros(runs, dtype=np.bool_))
    update = check_every if update_every is None else update_every
    if update % check_every:
        raise ValueError(f"update_every is {update}: a multiple of check_every, {check_every}, was expected")
    for start in range(0, horizon, check_every):
        steps = range(start, min(start + check_every, horizon))
        if made.counts_own_pulls:
            _counting_stretch(state, made, environment, world, steps, floor, burn_in, rng, bounds, rates)
        else:
            if start % update == 0:
                weights = made.propensities(state.statistics, environment.reward)
                state.propensities = with_floor(with_burn_in(weights, state.count, burn_in), floor)
            _drawn_stretch(state, environment, world, steps, rng, bounds, rates)
        if rule == "conditional":
            state.end_strata(made.counts_own_pulls or (start + check_every) % update == 0)
        winner = _winners(state, reward, rule, alpha, threshold)
        winner[state.count.min(axis=1) < min_rewards] = -1
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
    if rule not in _RULES:
        raise ValueError(f"rule is {rule!r}: one of {', '.join(_RULES)} was expected")
    if arms < 2:
        raise ValueError("at least two arms were expected")


def _rule_for(rule: Rule, reward: RewardModel, silence: bool) -> tuple[Rule, tuple[float, float]]:
    """The rule that weighs the reward, and the reward's bounds. Raises ValueError."""
    binary = reward.kind == "binary"
    if rule == "probability-best":
        return rule, reward.bounds or (0.0, 1.0)
    if reward.bounds is None:
        raise ValueError(f"the {rule} rule needs rewards with bounds, as bernoulli(...) has")
    if rule == "conditional" and not binary:
        raise ValueError("the conditional rule is for rewards of 0 and 1, as bernoulli(...) has")
    if rule == "anytime":
        if silence and not binary:
            raise ValueError("where silence means nothing, the anytime rule needs rewards of 0 and 1")
        rule = "conditional" if binary else "design"
    return rule, reward.bounds


def _rates(answered: Sequence[float], arms: int) -> Array:
    if len(answered) != arms:
        raise ValueError(f"answered has {len(answered)} rates: {arms} were expected")
    return np.array([checks.number(f"answered[{i}]", rate, 0.0, 1.0) for i, rate in enumerate(answered)])


def _drawn_stretch(
    state: _Experiments,
    environment: Environment,
    world: World,
    steps: range,
    rng: np.random.Generator,
    bounds: tuple[float, float],
    answered: Array | None,
) -> None:
    """Decisions drawn from the probabilities of the last update."""
    runs, arms = state.count.shape
    propensities = state.propensities
    means = np.stack([world.step(t).means[0] for t in steps])  # (n, K): simulated promotion has fixed worlds
    arm = draw(np.broadcast_to(propensities[:, None, :], (runs, len(steps), arms)), rng)
    mean = means[np.arange(len(steps)), arm]
    value = environment.draw(rng, mean, arm)
    state.regret += (means.max(axis=1) - mean).sum(axis=1)
    seen = np.ones(arm.shape, dtype=np.bool_) if answered is None else rng.random(arm.shape) < answered[arm]
    new = _statistics(arm, value, arms, seen)
    if state.rule == "conditional":
        state.open_count[:, 0] += new.count.astype(np.int64)
        state.open_ones[:, 0] += np.rint(new.total).astype(np.int64)
    elif state.rule == "design" and environment.reward.kind == "binary":
        ones = new.total
        state.evidence += counted_log_factors(ones, new.count - ones, propensities, state.pooled(bounds))
    elif state.rule == "design":
        outcome = np.clip((value - bounds[0]) / (bounds[1] - bounds[0]), 0.0, 1.0)
        pooled = state.pooled(bounds)
        for i in range(len(steps)):
            factors = single_log_factors(arm[:, i], outcome[:, i], propensities, pooled)
            state.evidence += np.where(seen[:, i, None, None, None], factors, 0.0)
    state.add(new)


def _counting_stretch(
    state: _Experiments,
    policy: Policy,
    environment: Environment,
    world: World,
    steps: range,
    floor: float,
    burn_in: float,
    rng: np.random.Generator,
    bounds: tuple[float, float],
    answered: Array | None,
) -> None:
    """Decisions one by one: each pull changes the probabilities of the next."""
    runs, arms = state.count.shape
    pulls = np.zeros((runs, arms))
    known, pooled, rows = state.statistics, state.pooled(bounds), np.arange(runs)
    chosen = np.empty((runs, len(steps)), dtype=np.int64)
    values = np.empty((runs, len(steps)))
    seen = np.ones((runs, len(steps)), dtype=np.bool_)
    almost_all = 1.0 - (arms - 1) * floor - 1e-9
    for i, t in enumerate(steps):
        weights = policy.propensities(known, environment.reward, pulls)
        propensities = with_floor(with_burn_in(weights, known.count, burn_in), floor)
        arm = draw(propensities, rng)
        means = world.step(t).means[0]
        value = environment.draw(rng, means[arm], arm)
        state.regret += means.max() - means[arm]
        if answered is not None:
            seen[:, i] = rng.random(runs) < answered[arm]
        if state.rule == "conditional":
            # Where several arms are next alike, their shares are others than in the rows before and
            # after: no stratum.
            weighed = np.flatnonzero(seen[:, i] & (propensities.max(axis=1) >= almost_all))
            cell = weighed, propensities[weighed].argmax(axis=1), arm[weighed]
            state.open_count[cell] += 1
            state.open_ones[cell] += value[weighed].astype(np.int64)
        elif state.rule == "design":
            outcome = np.clip((value - bounds[0]) / (bounds[1] - bounds[0]), 0.0, 1.0)
            factors = single_log_factors(arm, outcome, propensities, pooled)
            state.evidence += np.where(seen[:, i, None, None, None], factors, 0.0)
        pulls[rows, arm] += 1.0
        chosen[:, i], values[:, i] = arm, value
    state.add(_statistics(chosen, values, arms, seen))


def _statistics(arm: NDArray[np.int64], value: Array, arms: int, seen: NDArray[np.bool_]) -> ArmStatistics:
    """Statistics (runs, K) of `arm` and `value` (runs, n) where they were `seen` (runs, n)."""
    runs = len(arm)
    flat = arm + arms * np.arange(runs)[:, None]
    found = ArmStatistics.from_rewards(flat[seen], value[seen], runs * arms)
    return ArmStatistics(*(part.reshape(runs, arms) for part in (found.count, found.mean, found.m2)))


def _winners(state: _Experiments, reward: RewardModel, rule: Rule, alpha: float, threshold: float) -> NDArray[np.int64]:
    """The arm that the rule promotes in each experiment, or -1."""
    arms = state.count.shape[1]
    if rule != "probability-best":
        e = averaged(state.evidence)
        e[:, np.arange(arms), np.arange(arms)] = np.inf
        weakest = e.min(axis=2)
        best = weakest.argmax(axis=1)
        enough = weakest[np.arange(len(best)), best] >= arms / alpha
    else:
        probability = probability_best(believe(state.statistics, reward).posterior)
        best = probability.argmax(axis=1)
        enough = probability[np.arange(len(best)), best] > threshold
    return np.where(enough, best, -1)
