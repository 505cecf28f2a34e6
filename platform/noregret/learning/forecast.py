"""When an experiment might end: a range, from simulation of the very rule that promotes, at what is known of its arms.

Made where somebody asks for it, never in a round: it takes about a second. A single number of decisions is not told: extrapolated from the
evidence so far it was off by a factor of 0.14 to 11 between its 10 % and 90 % points.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from django.core.cache import cache

from bandits.belief import believe
from bandits.memory import EVERYTHING, Memory
from bandits.policies import Policy, make
from bandits.reward import RewardModel
from bandits.simulation import bernoulli
from bandits.simulation.promotion import simulate_promotion
from bandits.statistics import ArmStatistics as Statistics
from bandits.statistics import Array
from noregret.experiments.models import Arm, Experiment
from noregret.experiments.publish import propensities
from noregret.experiments.rewards import reward_model

from .knowledge import statistics_of
from .models import ExperimentEvidence
from .weighing import evidence_of

DRAWS, RUNS = 6, 8
"""So many times the arms' means are drawn from what is known of them, and so many experiments are simulated with each."""
CHECKS = 60
MOST_ARMS = 10
LEAST_HORIZON, MOST_HORIZON = 20_000, 1_000_000
_FEWEST_ALIKE = 12
_KEPT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Forecast:
    """`low` to `high`: after how many matured rewards in all 8 of 10 experiments like this one promote; None where that is beyond
    `horizon`, and both where nothing can be told. `ended`: the share of them that promote within `horizon`. `said`: the sentence.
    """

    matured: int
    low: int | None
    high: int | None
    horizon: int | None
    ended: float | None
    said: str


@dataclass(frozen=True, slots=True)
class _Split:
    """A fixed split, as a policy for the simulation."""

    shares: Array
    name: ClassVar[str] = "split"
    contextual: ClassVar[Literal[False]] = False
    counts_own_pulls: ClassVar[bool] = False

    @property
    def memory(self) -> Memory:
        return EVERYTHING

    def propensities(self, statistics: Statistics, reward: RewardModel, pulls: Array | None = None) -> Array:
        return np.broadcast_to(self.shares, statistics.count.shape).copy()

    def choose(self, *_: Any) -> Any:
        raise NotImplementedError("promotion is simulated from propensities")


def of_experiment(experiment: Experiment) -> dict[str, Any]:
    """The forecast as a document; the same for a minute."""
    key = f"forecast:{experiment.pk}:{experiment.status}"
    document: dict[str, Any] | None = cache.get(key)
    if document is None:
        document = asdict(forecast(experiment))
        cache.set(key, document, _KEPT_SECONDS)
    return document


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
        silent = "Nothing can be told before every arm has a reward and decisions have matured."
        return Forecast(matured, None, None, None, None, silent)
    horizon = int(np.clip(10 * matured, LEAST_HORIZON, MOST_HORIZON))
    # What the rule asks for counts the arms that were taken out too.
    alpha = (experiment.promotion or {})["alpha"] * len(arms) / evidence.arms
    pulls = _simulated(experiment, arms, known, horizon, alpha)
    # Those that promoted sooner than this one has gone on are not like it.
    alike = np.sort(pulls[pulls > matured])
    if len(alike) < _FEWEST_ALIKE:
        return Forecast(
            matured,
            None,
            None,
            horizon,
            None,
            "Most experiments with such arms would have ended by now: soon, or not as simulated.",
        )
    low, high = (float(alike[int(share * len(alike))]) for share in (0.1, 0.9))
    ended = float(np.isfinite(alike).mean())
    ends = [None if not np.isfinite(end) else _rounded(end) for end in (low, high)]
    return Forecast(matured, ends[0], ends[1], horizon, ended, _sentence(experiment, ends, ended, horizon, matured))


def _refusal(experiment: Experiment, arms: list[Arm]) -> str:
    """Why nothing is forecast, or nothing."""
    if experiment.status not in (Experiment.Status.RUNNING, Experiment.Status.PAUSED):
        return "Only an experiment that runs has an end before it."
    if experiment.strategy not in (Experiment.Strategy.AB, Experiment.Strategy.BANDIT) or experiment.apprentice:
        return "Its end is not a matter of evidence alone: nothing is forecast."
    if reward_model(experiment).kind != "binary":
        return "Forecasts are simulated for rewards of 0 and 1 alone."
    if not 2 <= len(arms) <= MOST_ARMS:
        return f"Forecasts are simulated for 2 to {MOST_ARMS} arms."
    if experiment.policy is not None:
        made = make(experiment.policy["name"], **experiment.policy["params"])
        if made.contextual or made.memory.forgets:
            return "No arm is promoted by itself here, for which is best depends on the time or on the request."
        if made.counts_own_pulls:
            return f"The simulation of {made.name} takes minutes: manage.py plan makes it."
    return ""


def _simulated(experiment: Experiment, arms: list[Arm], known: Statistics, horizon: int, alpha: float) -> Array:
    """After how many rewards each simulated experiment promoted; infinite where it did not within the horizon."""
    rng = np.random.default_rng(experiment.pk)
    # Larger is better here, whichever way the reward goes.
    means = np.clip(
        believe(known, reward_model(experiment)).posterior.sample(rng, (DRAWS, len(arms))), 1e-6, 1.0 - 1e-6
    )
    policy: str | Policy
    if experiment.policy is None:
        shares = np.array([share or 0.0 for share in propensities(experiment, arms)])
        policy, params, floor = _Split(shares / shares.sum()), {}, 0.0
    else:
        policy, params = experiment.policy["name"], experiment.policy["params"]
        floor = min(float(experiment.policy["floor"]), 1.0 / len(arms))
    found = []
    for drawn in np.asarray(means):
        seed = int(rng.integers(2**31))
        simulated = simulate_promotion(
            policy,
            bernoulli([float(mean) for mean in drawn]),
            horizon,
            RUNS,
            seed,
            params=params if isinstance(policy, str) else None,
            alpha=alpha,
            check_every=-(-horizon // CHECKS),
            floor=floor,
        )
        found.append(np.where(simulated.promoted >= 0, simulated.pulls, np.inf))
    pulls: Array = np.concatenate(found)
    return pulls


def _sentence(experiment: Experiment, ends: list[int | None], ended: float, horizon: int, matured: int) -> str:
    low, high = ends
    like = f"of simulated experiments that are like it {ended:.0%} promote within {_rounded(horizon):,} matured rewards"
    so_far = f"it has {matured:,}"
    if low is not None and high is not None:
        return f"It may promote after {low:,} to {high:,} matured rewards in all (8 of 10 simulated experiments); {so_far}."
    said = (
        f"It may never promote: {like}; {so_far}."
        if low is None
        else f"It may promote after {low:,} matured rewards or later, or never: {like}; {so_far}."
    )
    name = (experiment.policy or {}).get("name")
    if name not in (None, "uniform", "top-two-thompson"):
        said += f" {name} gives arms that lose little traffic: top-two-thompson or a larger floor decides sooner."
    if not (experiment.promotion or {}).get("indifference", 0.0):
        said += (
            " If the arms are alike there is no difference to show, and only an indifference would end it by itself."
        )
    return said


def _rounded(value: float) -> int:
    """To two figures: a simulation of a few dozen runs promises no more."""
    size = 10 ** max(len(str(int(value))) - 2, 0)
    return int(round(value / size) * size)
