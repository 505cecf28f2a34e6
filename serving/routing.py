"""Snapshot + unit + randomness -> arm, with the probability that was really used.

A router is made once a snapshot and asked once a request. The probabilities that it draws from are
the ones that it reports: the draw and the log agree by construction. No I/O and no clock enter this
module, and nothing but numpy and the standard library: an exported package carries it as it is.

Whatever is drawn comes from `uniform`, which gives numbers in [0, 1): the process's own generator,
or the one that a caller seeded. Two routers of one snapshot with generators of one seed choose
alike.

A request may exclude arms. Then the draw is one among the others, with the probabilities that are
reported: of a fixed split, and of a policy whose probabilities the snapshot has, those of the
others in the same ratios; a policy that chooses here is asked as if there were no more arms.
"""

import math
import random
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.policies import contextual_names, make, make_contextual
from bandits.policies.allocation import allocate, allocate_in_context, among
from bandits.policies.protocol import ContextualBelief
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array

if TYPE_CHECKING:  # a package has the same fields in objects of its own
    from .snapshot import Experiment

Uniform = Callable[[], float]
"""Gives a number in [0, 1) a call, each as likely as any."""

_BLOCK = 8  # 64-bit numbers in one BLAKE2b digest


class Route(NamedTuple):
    """Where a request goes: the position of the arm to serve, and every arm's probability at that
    moment, by position."""

    position: int
    propensities: Sequence[float]
    holdout: bool = False  # the unit is held out of the bandit
    proposed: int | None = None  # what an apprentice would have served


class Router(Protocol):
    def route(self, unit: str | None, x: Array | None = None) -> Route:
        """The arm for a unit's request.

        `x` (d,) are the features of the request, where the experiment declares some.
        """

    def route_among(self, allowed: NDArray[np.bool_], unit: str | None, x: Array | None = None) -> Route | None:
        """The same for a request that only the arms `allowed` (K,), of booleans, may serve; None
        where none of them could."""


def draw(cumulative: Sequence[float], uniform: Uniform = random.random) -> int:
    """A position with the probabilities whose running sums are given; a position of probability 0
    is never drawn."""
    return bisect_right(cumulative, uniform() * cumulative[-1])


class OneSeatRouter:
    """A single deployment: its champion, certainly."""

    _ROUTE = Route(0, (1.0,))

    def route(self, unit: str | None, x: Array | None = None) -> Route:
        return self._ROUTE

    def route_among(self, allowed: NDArray[np.bool_], unit: str | None, x: Array | None = None) -> Route | None:
        return self._ROUTE if allowed.any() else None


class DrawnRouter:
    """Bandits whose probabilities are a function of the snapshot alone: each request draws its arm
    from them. `enabled`: by position, all where it is not given."""

    def __init__(
        self,
        propensities: Sequence[float],
        enabled: Sequence[bool] | None = None,
        uniform: Uniform = random.random,
    ) -> None:
        self._uniform = uniform
        self._propensities = list(propensities)
        self._cumulative = list(accumulate(self._propensities))
        self._enabled = np.array([True] * len(self._propensities) if enabled is None else enabled)

    def route(self, unit: str | None, x: Array | None = None) -> Route:
        return Route(draw(self._cumulative, self._uniform), self._propensities)

    def route_among(self, allowed: NDArray[np.bool_], unit: str | None, x: Array | None = None) -> Route | None:
        eligible = self._enabled & allowed
        if not eligible.any():
            return None
        shares = among(np.array(self._propensities), eligible).tolist()
        return Route(draw(list(accumulate(shares)), self._uniform), shares)


def by_hash(experiment_id: int, unit: str, weights: Sequence[float]) -> int:
    """The position of the highest score of a unit, among those with a weight (HashedRouter)."""
    body, salt = unit.encode(), experiment_id.to_bytes(8, "big")
    best, best_score = 0, -1.0
    for block in range(0, len(weights), _BLOCK):
        digest = blake2b(body, key=salt, salt=block.to_bytes(8, "big")).digest()
        for position, weight in enumerate(weights[block : block + _BLOCK], start=block):
            if weight <= 0.0:
                continue
            offset = 8 * (position - block)
            number = int.from_bytes(digest[offset : offset + 8], "big")
            score = -weight / math.log((number + 0.5) * 2.0**-64)
            if score > best_score:
                best, best_score = position, score
    return best


class HashedRouter:
    """Fixed splits: a unit's arm follows from the experiment, the unit and the weights, with no
    memory anywhere.

    Weighted rendezvous hashing: each arm gets a score -w / ln(u) with u a uniform hash of
    (experiment, unit, arm), and the highest wins, which happens with probability w / sum(w). An arm
    whose weight grows only gains units; cutting [0, 1) into intervals was rejected because there a
    reweighting moves units between arms that did not change. Requests without a unit are drawn.

    A request that excludes arms goes to the highest score among the others, which an arm has with
    its share of their weights: the unit keeps its arm unless it is that one which is excluded.
    """

    def __init__(self, experiment_id: int, propensities: Sequence[float], uniform: Uniform = random.random) -> None:
        self._uniform = uniform
        self._experiment_id = experiment_id
        self._propensities = list(propensities)
        self._cumulative = list(accumulate(self._propensities))

    def route(self, unit: str | None, x: Array | None = None) -> Route:
        if unit is None:
            return Route(draw(self._cumulative, self._uniform), self._propensities)
        return Route(by_hash(self._experiment_id, unit, self._propensities), self._propensities)

    def route_among(self, allowed: NDArray[np.bool_], unit: str | None, x: Array | None = None) -> Route | None:
        weights = np.where(allowed, self._propensities, 0.0)
        if not weights.any():  # an arm without weight gets nobody, whoever else is excluded
            return None
        shares = (weights / weights.sum()).tolist()
        position = (
            draw(list(accumulate(shares)), self._uniform)
            if unit is None
            else by_hash(self._experiment_id, unit, shares)
        )
        return Route(position, shares)


class CountingRouter:
    """Deterministic policies (UCB): counts the pulls that are out, those of the snapshot and this
    process's own since.

    Without that all traffic would herd onto one arm for a whole refresh interval, and where rewards
    come later than the next snapshot, for ever. Other processes' pulls since the snapshot are not
    seen; with W of them the over-pull is at most W times that of one.
    """

    def __init__(self, experiment: "Experiment", uniform: Uniform = random.random) -> None:
        self._uniform = uniform
        policy = experiment.policy
        if policy is None:
            raise ValueError(f"experiment {experiment.name} has no policy")
        arms = experiment.arms
        reward = experiment.reward
        self._policy = make(policy.name, **policy.params)
        self._floor = policy.floor
        self._burn_in = policy.burn_in
        self._reward = RewardModel(reward.kind, reward.direction, reward.minimum, reward.maximum)
        self._enabled = np.array([arm.enabled for arm in arms])
        self._statistics = ArmStatistics(
            np.array([arm.count for arm in arms], dtype=np.float64),
            np.array([arm.mean for arm in arms], dtype=np.float64),
            np.array([arm.m2 for arm in arms], dtype=np.float64),
        )
        self._learned = _ever_learned(experiment)
        self._pulls = np.array([arm.open for arm in arms], dtype=np.float64)
        self._lock = threading.Lock()

    def route(self, unit: str | None, x: Array | None = None) -> Route:
        return self._drawn(self._enabled)

    def route_among(self, allowed: NDArray[np.bool_], unit: str | None, x: Array | None = None) -> Route | None:
        eligible = self._enabled & allowed
        return self._drawn(eligible) if eligible.any() else None

    def _drawn(self, eligible: NDArray[np.bool_]) -> Route:
        with self._lock:
            probabilities = allocate(
                self._policy,
                self._statistics,
                self._reward,
                floor=self._floor,
                burn_in=self._burn_in,
                learned=self._learned,
                pulls=self._pulls,
                enabled=eligible,
            ).tolist()
            position = draw(list(accumulate(probabilities)), self._uniform)
            self._pulls[position] += 1.0
        return Route(position, probabilities)


class ContextualRouter:
    """Policies that learn from features: the probabilities follow from each request's own.

    A deterministic one narrows its belief by the pulls that are out, as CountingRouter counts them:
    the snapshot's belief is narrowed by those known to it, and here by this process's own since,
    unless it is told not to count them.
    """

    def __init__(
        self, experiment: "Experiment", uniform: Uniform = random.random, *, counts_pulls: bool = True
    ) -> None:
        self._uniform = uniform
        policy, belief = experiment.policy, experiment.belief
        if policy is None or belief is None:
            raise ValueError(f"experiment {experiment.name} has no policy or no belief")
        self._policy = make_contextual(policy.name, **policy.params)
        self._counts_pulls = counts_pulls and self._policy.counts_own_pulls
        self._floor = policy.floor
        self._burn_in = policy.burn_in
        self._count = _ever_learned(experiment)
        self._enabled = np.array([arm.enabled for arm in experiment.arms])
        self._belief = ContextualBelief(np.array(belief.mean), np.array(belief.covariance))
        self._lock = threading.Lock()

    def route(self, unit: str | None, x: Array | None = None) -> Route:
        return self._drawn(self._enabled, x)

    def route_among(self, allowed: NDArray[np.bool_], unit: str | None, x: Array | None = None) -> Route | None:
        eligible = self._enabled & allowed
        return self._drawn(eligible, x) if eligible.any() else None

    def _drawn(self, eligible: NDArray[np.bool_], x: Array | None) -> Route:
        if x is None:
            raise ValueError("features were expected")
        belief = self._belief
        probabilities = allocate_in_context(
            self._policy,
            belief,
            x[None, :],
            self._count,
            floor=self._floor,
            burn_in=self._burn_in,
            enabled=eligible,
        )[0].tolist()
        position = draw(list(accumulate(probabilities)), self._uniform)
        if self._counts_pulls:
            with self._lock:
                self._belief = self._belief.after_pull(position, x)
        return Route(position, probabilities)


def _ever_learned(experiment: "Experiment") -> Array:
    """Rewards ever learned of each arm, (K,)."""
    return np.array([arm.count if arm.learned is None else arm.learned for arm in experiment.arms], dtype=np.float64)


class HoldoutRouter:
    """A share of units always gets the control, so that what the bandit earns can be held against
    not having one.

    Who is held out follows from the unit, for the whole experiment; requests without a unit are
    drawn. The probabilities that are told are those of the step that remained: the policy's own for
    who is not held out, and certainty for who is. Telling the mix of both steps was rejected: a
    unit that returns is always or never held out, so the mix is nobody's probability.

    A request that excludes the control is nobody's to hold out: the policy chooses among the rest.
    """

    def __init__(self, inner: Router, experiment: "Experiment", control: int, uniform: Uniform = random.random) -> None:
        self._inner = inner
        self._control = control
        self._certainly = [float(i == control) for i in range(len(experiment.arms))]
        # Another experiment's salt: who is held out has nothing to do with any other split.
        self._split = HashedRouter(2**62 + experiment.id, [experiment.holdout, 1.0 - experiment.holdout], uniform)

    def route(self, unit: str | None, x: Array | None = None) -> Route:
        if self._split.route(unit).position == 0:
            return Route(self._control, self._certainly, holdout=True)
        return self._inner.route(unit, x)

    def route_among(self, allowed: NDArray[np.bool_], unit: str | None, x: Array | None = None) -> Route | None:
        if allowed[self._control] and self._split.route(unit).position == 0:
            return Route(self._control, self._certainly, holdout=True)
        return self._inner.route_among(allowed, unit, x)


class ApprenticeRouter:
    """The control serves; the policy's choice is told beside it."""

    def __init__(self, inner: Router, arms: int, control: int) -> None:
        self._inner = inner
        self._control = control
        self._propensities = [float(i == control) for i in range(arms)]

    def route(self, unit: str | None, x: Array | None = None) -> Route:
        proposed = self._inner.route(unit, x).position
        return Route(self._control, self._propensities, proposed=proposed)

    def route_among(self, allowed: NDArray[np.bool_], unit: str | None, x: Array | None = None) -> Route | None:
        if not allowed[self._control]:  # nobody else serves
            return None
        proposed = self._inner.route_among(allowed, unit, x)
        return Route(self._control, self._propensities, proposed=None if proposed is None else proposed.position)


def kept_from_now(route: Route, experiment_id: int, unit: str) -> Route:
    """What a unit keeps that had no arm yet, by the probabilities of its request: its arm follows
    from its hash.

    So whoever meets it first gives the same arm, a device without a network too. A draw was
    rejected: two that do not hear of each other would give the unit two arms.
    """
    return Route(by_hash(experiment_id, unit, route.propensities), route.propensities)


def kept_among(kept: Route, eligible: NDArray[np.bool_], experiment_id: int, unit: str) -> Route | None:
    """What a unit that keeps its arm gets of the arms that are `eligible` (K,) for a request; None
    where it could have had none of them.

    It keeps its arm where that is eligible. Otherwise it has another for such requests, always the
    same, drawn by the probabilities that its own was drawn with: over both draws each eligible arm
    has its share of theirs, which is what is told. What the unit keeps does not change.
    """
    drawn = np.zeros(len(eligible))  # an arm that was added since had no chance
    drawn[: len(kept.propensities)] = kept.propensities
    left = eligible & (drawn > 0.0)
    if not left.any():
        return None
    shares = among(drawn, left).tolist()
    if left[kept.position]:
        return Route(kept.position, shares)
    # Another experiment's salt: the second draw has nothing to do with any other split.
    return Route(by_hash(2**61 + experiment_id, unit, shares), shares)


def router(experiment: "Experiment", uniform: Uniform = random.random, *, counts_pulls: bool = True) -> Router:
    """The router that an experiment's strategy and policy ask for. Raises ValueError for a policy
    that is not known here.

    `counts_pulls` False: a policy that counts its pulls chooses with the probabilities that the
    snapshot has, for whoever decides apart from the service. The pulls of many installations are
    nobody's to count, and what they send can be checked against the snapshot alone.
    """
    propensities = [arm.propensity for arm in experiment.arms]
    if experiment.strategy != "bandit":
        # A canary that grows is a fixed split whose weights move; a shadow's control has all of the
        # traffic.
        return HashedRouter(experiment.id, propensities, uniform)
    control = next((i for i, arm in enumerate(experiment.arms) if arm.is_control and arm.enabled), None)
    inner = _policy_router(experiment, propensities, uniform, counts_pulls)
    if experiment.apprentice and control is not None:
        return ApprenticeRouter(inner, len(experiment.arms), control)
    if experiment.holdout > 0.0 and control is not None:
        return HoldoutRouter(inner, experiment, control, uniform)
    return inner


def _policy_router(experiment: "Experiment", propensities: list[float], uniform: Uniform, counts_pulls: bool) -> Router:
    policy = experiment.policy
    if policy is not None and policy.name in contextual_names():
        return ContextualRouter(experiment, uniform, counts_pulls=counts_pulls)
    if counts_pulls and policy is not None and make(policy.name, **policy.params).counts_own_pulls:
        return CountingRouter(experiment, uniform)
    return DrawnRouter(propensities, [arm.enabled for arm in experiment.arms], uniform)
