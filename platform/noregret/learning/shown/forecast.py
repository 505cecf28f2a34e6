"""When an experiment might end: a range, from simulation of the very rule that promotes, at what is
known of its arms.

Made where somebody asks for it, never in a round. A single number of decisions is not told:
extrapolated from the evidence so far it was off by a factor of 0.14 to 11 between its 10 % and 90 %
points.
"""

import time
from collections.abc import Sequence

import numpy as np
from django.core.cache import cache
from msgspec import Struct
from numpy.typing import NDArray

from bandits.belief import believe
from bandits.inference.verdict import needed_of
from bandits.policies import ContextualPolicy, Policy, make
from bandits.simulation import outlook
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.policies import made_policy
from noregret.experiments.rewards import reward_model
from noregret.learning.evidence import evidence_of
from noregret.learning.knowledge import statistics_of
from noregret.learning.models import ExperimentEvidence
from noregret.learning.shares import propensities

from .phrases import listed

RUNS = 80
MOST_ARMS = 10
HORIZON = 30
"""It looks ahead so many times as far as the experiment has come, but within these bounds."""
LEAST_HORIZON, MOST_HORIZON = 100_000, 3_000_000
_FRESH_SECONDS = 60
_KEPT_SECONDS = 3600
"""Whoever asks gets one that is a minute old at most; a page that asks for none shows what is
kept."""


class Forecast(Struct, frozen=True):
    """After how many matured rewards in all 8 of 10 experiments promote that are simulated on from
    here: `low` to `high`, null where that is beyond `horizon`, and both where nothing can be told.
    `ended`: the share that promotes within it. `said`: the sentence."""

    matured: int
    low: int | None
    high: int | None
    horizon: int | None
    ended: float | None
    said: str


def of_experiment(experiment: Experiment) -> Forecast:
    """The forecast; the same for a minute."""
    key = _key(experiment, [arm for arm in experiment.arms.order_by("position") if arm.enabled])
    kept: tuple[float, Forecast] | None = cache.get(key)
    if kept is not None and time.time() - kept[0] < _FRESH_SECONDS:
        return kept[1]
    told = forecast(experiment)
    if told.horizon is not None:  # why none is made is known at once, and may be otherwise in a moment
        cache.set(key, (time.time(), told), _KEPT_SECONDS)
    return told


def known(experiment: Experiment) -> Forecast | None:
    """What is known without a simulation: why none is made, or the last one of this hour; else
    None."""
    arms = [arm for arm in experiment.arms.order_by("position") if arm.enabled]
    refusal = _refusal(experiment, arms)
    if refusal:
        return Forecast(0, None, None, None, None, refusal)
    kept: tuple[float, Forecast] | None = cache.get(_key(experiment, arms))
    return None if kept is None else kept[1]


def _key(experiment: Experiment, arms: list[Arm]) -> str:
    """Of the arms that are served: with one more or less it is another question."""
    of = "-".join(str(arm.position) for arm in arms)
    return f"forecast:{experiment.pk}:{experiment.status}:{of}"


def forecast(experiment: Experiment) -> Forecast:
    """Of a running or paused experiment. Where nothing can be told, `said` tells why."""
    arms = [arm for arm in experiment.arms.order_by("position") if arm.enabled]
    held = ExperimentEvidence.objects.get(experiment=experiment)
    evidence = evidence_of(experiment, held)
    matured = 0 if evidence is None else int(evidence.matured.count.sum())
    refusal = _refusal(experiment, arms)
    if refusal or evidence is None:
        return Forecast(matured, None, None, None, None, refusal or "Nothing is forecast without a reward with bounds.")
    known = statistics_of(arms)
    if (known.count < 1).any() or not matured:
        return Forecast(matured, None, None, None, None, _too_early(arms, known.count < 1))
    horizon = int(np.clip(HORIZON * matured, LEAST_HORIZON, MOST_HORIZON))
    seats = [arm.position for arm in arms]
    # Arms that were taken out after outcomes count in what the rule asks for.
    enabled = np.zeros(evidence.arms, dtype=np.bool_)
    enabled[seats] = True
    needed = needed_of(evidence, experiment.promotion_.alpha, enabled)
    between = evidence.e_values()[np.ix_(seats, seats)]
    if (between + np.diag(np.full(len(seats), np.inf))).min(axis=1).max() >= needed:
        enough = "The evidence is enough: what the promotion still waits for stands in the recommendation."
        return Forecast(matured, None, None, None, None, enough)
    more = np.sort(_simulated(experiment, arms, between, horizon, needed))
    low, high = (float(more[int(share * len(more))]) for share in (0.1, 0.9))
    ends = [None if not np.isfinite(end) else _rounded(matured + end) for end in (low, high)]
    ended = float(np.isfinite(more).mean())
    ahead = _rounded(matured + horizon)
    return Forecast(matured, ends[0], ends[1], ahead, ended, _sentence(experiment, ends, ended, ahead, matured))


def _too_early(arms: Sequence[Arm], silent: NDArray[np.bool_]) -> str:
    names = [arm.name for arm, is_silent in zip(arms, silent, strict=True) if is_silent]
    if not names:
        return "Nothing can be told before decisions have matured."
    has, is_ = ("has", "is") if len(names) == 1 else ("have", "are")
    return f"Nothing can be told before {listed(names)} {has} a reward, or {is_} taken out."


def _refusal(experiment: Experiment, arms: list[Arm]) -> str:
    """Why nothing is forecast, or nothing."""
    if experiment.status not in (Experiment.Status.RUNNING, Experiment.Status.PAUSED):
        return "Only an experiment that runs has an end before it."
    if experiment.strategy not in (Experiment.Strategy.AB, Experiment.Strategy.BANDIT) or experiment.apprentice:
        return "Its end is not a matter of evidence alone: nothing is forecast."
    if reward_model(experiment).kind != "binary":
        return "Forecasts are simulated for rewards of 0 and 1 alone, and these are other numbers."
    if not 2 <= len(arms) <= MOST_ARMS:
        return f"Forecasts are simulated for 2 to {MOST_ARMS} arms."
    made = made_policy(experiment)
    if made is not None:
        if made.contextual or made.memory.forgets:
            return "No arm is promoted by itself here, for which is best depends on the time or on the request."
        if made.counts_own_pulls:
            return f"The simulation of {made.name} takes minutes: manage.py plan makes it."
    return ""


def _simulated(experiment: Experiment, arms: list[Arm], evidence: Array, horizon: int, needed: float) -> Array:
    """After how many more rewards each simulated experiment promotes; infinite where it does not
    within the horizon."""
    rng = np.random.default_rng(experiment.pk)  # the same figures on each look at the same state
    known = statistics_of(arms)
    # Larger is better from here on, whichever way the reward goes.
    posterior = believe(known, reward_model(experiment)).posterior
    means = np.clip(posterior.sample(rng, (RUNS, len(arms))), 0.0, 1.0)
    won = known.total if reward_model(experiment).direction == "maximize" else known.count - known.total
    policy: Policy | ContextualPolicy | None = None
    shares: Array | None = None
    chosen = experiment.policy_
    if chosen is not None:
        policy = make(chosen.name, **chosen.params)
    else:
        shares = np.array([share or 0.0 for share in propensities(experiment, arms)])
    assert policy is None or not policy.contextual
    return outlook(
        policy,
        means,
        won,
        known.count,
        evidence,
        horizon=horizon,
        needed=needed,
        seed=int(rng.integers(2**31)),
        shares=shares,
        floor=0.0 if chosen is None else min(chosen.floor, 1.0 / len(arms)),
        burn_in=0.0 if chosen is None else float(chosen.burn_in),
    ).more


def _sentence(experiment: Experiment, ends: list[int | None], ended: float, horizon: int, matured: int) -> str:
    low, high = ends
    like = f"simulated on from here, {ended:.0%} promote within {horizon:,} matured rewards in all"
    so_far = f"it has {matured:,}"
    if low is not None and low == high:
        return f"It may promote after about {low:,} matured rewards in all; {so_far}."
    if low is not None and high is not None:
        return f"It may promote after {low:,} to {high:,} matured rewards in all: so do 8 of 10 simulated on from here; {so_far}."
    said = (
        f"It may never promote: {like}; {so_far}."
        if low is None
        else f"It may promote after {low:,} matured rewards or later, or never: {like}; {so_far}."
    )
    policy = experiment.policy_
    if policy is not None and policy.name not in ("uniform", "top-two-thompson"):
        said += (
            f" {policy.name} gives arms that lose little traffic: top-two-thompson or a larger floor decides sooner."
        )
    if not experiment.promotion_.indifference:
        said += (
            " If the arms are alike there is no difference to show, and only an indifference would end it by itself."
        )
    return said


def _rounded(value: float) -> int:
    """To two figures: a simulation of a few dozen runs promises no more."""
    size = 10 ** max(len(str(int(value))) - 2, 0)
    return int(round(value / size) * size)
