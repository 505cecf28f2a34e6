"""Where features meet: every router and strategy with units that return, unequal answers, holdouts,
arms that come, go and fail.

All arms are alike. Requests go through the routers that serve; decisions are counted by the rules
that the service counts them by; evidence and sample ratio are looked at after each batch. What is
promoted, rolled back or alarmed of is false.

python -m benchmarks.crossings --runs 200 > docs/tables/crossings.md
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bandits.inference.evidence import Bucket, Evidence, empty
from bandits.inference.sample_ratio import ALARM, SampleRatio
from bandits.inference.verdict import verdict
from bandits.policies import make
from bandits.policies.allocation import allocate
from bandits.reward import RewardModel
from bandits.statistics import ArmStatistics, Array
from serving import snapshot
from serving.routing import Route, Router, kept_among, router
from serving.runtimes.static import StaticModel

from .contextual_promotion import Learner, above

ALPHA = 0.05
BINARY = RewardModel("binary")
MODEL = StaticModel(model="m@1", framework="static")
REWARD = snapshot.Reward(1, "e", "reward", "binary", "maximize", 60.0)
FOUR_STEPS = (0.05, 0.25, 0.5, 1.0)
TEN_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """An experiment between arms that are alike, as the service would run it.

    `returning` units come again and again, each with a mean of its own; without, every request is a
    new unit's, and the common mean rises from .2 to .7. `answered` are the arms' rates of feedback,
    silence meaning nothing. `added` and `disabled` name the batch at which the last arm comes or
    goes; its decisions are fallbacks with probability `failing`. A share `excluding` of the
    requests are not for the last arm: those whose mean is a third of the others'. `batch` decisions
    meet one snapshot.
    """

    name: str
    strategy: snapshot.Strategy = "bandit"
    policy: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    floor: float = 0.01
    burn_in: int = 50
    steps: tuple[float, ...] = ()
    arms: int = 2
    returning: int | None = None
    answered: tuple[float, ...] | None = None
    holdout: float = 0.0
    sticky: bool = False
    apprentice: bool = False
    added: int | None = None
    disabled: int | None = None
    failing: float = 0.0
    excluding: float = 0.0
    costs: tuple[float, ...] | None = None
    batches: int = 20
    batch: int = 100

    @property
    def contextual(self) -> bool:
        return self.policy is not None and bool(make(self.policy, **self.params).contextual)

    @property
    def counts_own_pulls(self) -> bool:
        return self.policy is not None and bool(make(self.policy, **self.params).counts_own_pulls)

    @property
    def units_count_once(self) -> bool:
        return self.strategy in ("ab", "canary") or self.sticky

    @property
    def rule(self) -> str:
        return "weighted" if self.contextual else "conditional"


@dataclass(frozen=True, slots=True)
class Ending:
    """What an experiment of arms that are alike came to. `trials` entered the evidence."""

    promoted: bool
    rolled_back: bool
    alarmed: bool
    trials: int


Labels = Callable[["Setting", int, Array], NDArray[np.int64]]


def labels_of(setting: Setting, version: int, propensities: Array) -> NDArray[np.int64]:
    """Allocations as the service labels them: by policy version where a policy learns, by the
    probabilities where a split is fixed."""
    if setting.strategy == "bandit" and setting.policy != "uniform":
        return np.full(len(propensities), version, dtype=np.int64)
    return by_probabilities(setting, version, propensities)


def by_probabilities(setting: Setting, version: int, propensities: Array) -> NDArray[np.int64]:
    """One number for each allocation, the same whenever it comes."""
    distinct, which = np.unique(propensities, axis=0, return_inverse=True)
    numbers = [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "big") >> 1 for row in distinct]
    return np.array(numbers, dtype=np.int64)[which.ravel()]


class Run:
    """One experiment under way."""

    def __init__(self, setting: Setting, seed: int, labels: Labels = labels_of) -> None:
        self.setting = setting
        self._labels = labels
        self._generator = np.random.default_rng(seed)
        random.seed(seed)  # the routers draw from it
        self._id = seed + 1
        arms = setting.arms
        self._learned = ArmStatistics.zeros(arms)
        self._models = Learner(setting.policy, arms) if setting.contextual and setting.policy else None
        self._evidence: Evidence = empty(setting.rule, arms if setting.added is None else arms - 1)
        self._ratio = SampleRatio.zeros(arms)
        self._seen: set[str] = set()
        self._kept: dict[str, Route] = {}
        means = self._generator.random(setting.returning or 1)
        self._unit_means = means if setting.returning is not None else None
        self._next_unit = 0
        self.trials = 0

    @property
    def evidence(self) -> Evidence:
        return self._evidence

    def end(self) -> Ending:
        """Run it until something is due, or to its end."""
        promoted = rolled_back = alarmed = False
        for number in range(self.setting.batches):
            enabled = self._serve(number)
            p = self._ratio.p
            alarmed |= p is not None and p < ALARM
            if self.setting.strategy == "canary":
                rolled_back |= float(self._evidence.e_values()[0, 1]) >= 1.0 / ALPHA
                continue
            promoted |= verdict(self._evidence, ALPHA, enabled[: self._evidence.arms]).action == "promote"
        return Ending(promoted, rolled_back, alarmed, self.trials)

    def _serve(self, number: int) -> NDArray[np.bool_]:
        """One batch: a snapshot, its requests, what is learned and weighed of them. Which arms were
        enabled."""
        setting, generator = self.setting, self._generator
        enabled = np.ones(setting.arms, dtype=np.bool_)
        if setting.added is not None:
            enabled[-1] = number >= setting.added
            if enabled[-1]:
                self._evidence = self._evidence.with_arms(setting.arms)
        if setting.disabled is not None:
            enabled[-1] &= number < setting.disabled
        served = router(self._snapshot(number, enabled))
        arms: list[int] = []
        logged: list[Sequence[float]] = []
        outcomes: list[float] = []
        trials: list[bool] = []
        known: list[bool] = []  # answered, and served by its own arm
        features: list[Array] = []
        eligible: list[NDArray[np.bool_]] = []
        for _ in range(setting.batch):
            unit, mean = self._request(number)
            x = np.array([1.0, generator.random()])
            allowed = np.ones(setting.arms, dtype=np.bool_)
            allowed[-1] = generator.random() >= setting.excluding
            route = self._route(served, unit, x if setting.contextual else None, allowed, enabled)
            if route is None:
                continue
            position = route.position
            if setting.contextual:
                mean = float(above(x[1:])[0, position])
            mean = mean if allowed[-1] else mean / 3
            trial = not route.holdout and not (setting.units_count_once and unit in self._seen)
            self._seen.add(unit)
            fell_back = position == setting.arms - 1 and generator.random() < setting.failing
            answered = setting.answered is None or generator.random() < setting.answered[position]
            arms.append(position)
            logged.append(route.propensities)
            outcomes.append(float(generator.random() < mean))
            trials.append(trial)
            known.append(answered and not fell_back)
            features.append(x)
            eligible.append(allowed)
        arm, outcome, x = np.array(arms), np.array(outcomes), np.array(features)
        self._learn(arm[known], outcome[known], x[known])
        self._weigh(number, arm, outcome, np.array(logged), np.array(trials), np.array(known), np.array(eligible))
        return enabled

    def _route(
        self, served: Router, unit: str, x: Array | None, allowed: NDArray[np.bool_], enabled: NDArray[np.bool_]
    ) -> Route | None:
        """As serving.choosing goes about it; None where no arm is left."""
        route: Route | None = served.route(unit, x) if self.setting.sticky or allowed.all() else None
        if route is not None and self.setting.sticky and not route.holdout and route.proposed is None:
            route = self._kept.setdefault(unit, route)
            if not allowed.all():
                route = kept_among(route, allowed & enabled, self._id, unit)
        elif not allowed.all():
            route = None
        return route or served.route_among(allowed, unit, x)

    def _request(self, number: int) -> tuple[str, float]:
        if self._unit_means is not None:
            unit = int(self._generator.integers(len(self._unit_means)))
            return f"unit-{unit}", float(self._unit_means[unit])
        self._next_unit += 1
        return f"new-{self._next_unit}", 0.2 + 0.5 * number / self.setting.batches

    def _learn(self, arm: NDArray[np.int64], outcome: Array, x: Array) -> None:
        self._learned += ArmStatistics.from_rewards(arm, outcome, self.setting.arms)
        if self._models is not None and len(arm):
            self._models.learn(arm, x, outcome)

    def _weigh(
        self,
        number: int,
        arm: NDArray[np.int64],
        outcome: Array,
        logged: Array,
        trials: NDArray[np.bool_],
        known: NDArray[np.bool_],
        eligible: NDArray[np.bool_],
    ) -> None:
        self._ratio = self._ratio.observe(arm[trials], logged[trials])
        rows = trials & known
        self.trials += int(rows.sum())
        among = logged[rows][:, : self._evidence.arms]
        label = self._labels(self.setting, number, among)
        are_for = eligible[rows][:, : self._evidence.arms]
        self._evidence = self._evidence.observe(Bucket(arm[rows], outcome[rows], among, label, are_for))

    def _snapshot(self, number: int, enabled: NDArray[np.bool_]) -> snapshot.Experiment:
        setting, learned = self.setting, self._learned
        shares = self._shares(number, enabled)
        belief = None
        if self._models is not None:
            found = self._models.believe()
            belief = snapshot.Belief(found.mean.tolist(), found.covariance.tolist())
        return snapshot.Experiment(
            id=self._id,
            name="e",
            strategy=setting.strategy,
            arms=[
                snapshot.Arm(
                    i, f"arm-{i}", MODEL, float(share), enabled=bool(on), is_control=i == 0, count=n, mean=mean, m2=m2
                )
                for i, (share, on, n, mean, m2) in enumerate(
                    zip(shares, enabled, learned.count, learned.mean, learned.m2, strict=True)
                )
            ],
            reward=REWARD,
            policy=snapshot.Policy(setting.policy, setting.params, setting.floor, setting.burn_in)
            if setting.policy
            else None,
            belief=belief,
            holdout=setting.holdout,
            apprentice=setting.apprentice,
            sticky=setting.sticky,
        )

    def _shares(self, number: int, enabled: NDArray[np.bool_]) -> Array:
        setting = self.setting
        if setting.strategy == "canary":
            weight = setting.steps[min(number * len(setting.steps) // setting.batches, len(setting.steps) - 1)]
            return np.array([1.0 - weight, weight])
        if setting.policy is None or setting.contextual:
            return np.asarray(enabled / enabled.sum(), dtype=np.float64)
        return allocate(
            make(setting.policy, **setting.params),
            self._learned,
            BINARY,
            floor=setting.floor,
            burn_in=setting.burn_in,
            enabled=enabled,
            costs=None if setting.costs is None else np.array(setting.costs),
        )


def settings() -> Iterator[Setting]:
    """Every strategy and option, by itself and with what it meets."""
    unequal = (0.9, 0.3)
    fixed = Setting("ab", strategy="ab")
    thompson = Setting("thompson", policy="thompson")
    canary = Setting("canary of four steps", strategy="canary", steps=FOUR_STEPS)
    kinds = [
        fixed,
        thompson,
        *(Setting(policy, policy=policy) for policy in ("uniform", "top-two-thompson", "epsilon-greedy", "softmax")),
        Setting("ucb1", policy="ucb1", floor=0.1, batches=10, batch=60),
        Setting("lin-thompson", policy="lin-thompson", floor=0.05, batches=10, batch=60),
        Setting("lin-ucb", policy="lin-ucb", floor=0.1, batches=10, batch=60),
        canary,
    ]
    for kind in kinds:
        yield kind
        if not kind.contextual:
            yield replace(kind, name=f"{kind.name}, 50 units return", returning=50)
        yield replace(kind, name=f"{kind.name}, answered .9 and .3", answered=unequal)
    yield replace(canary, name="canary of ten steps, 200 units return", steps=TEN_STEPS, returning=200)
    yield replace(fixed, name="ab, 200 units return, answered .9 and .3", returning=200, answered=unequal)
    for share, units in ((0.1, 20), (0.2, 50), (0.2, 200)):
        yield replace(
            thompson, name=f"thompson, holdout {share:g}, {units} units return", holdout=share, returning=units
        )
    yield replace(
        thompson, name="thompson, holdout 0.2, answered .9 and .3", holdout=0.2, returning=100, answered=unequal
    )
    yield replace(thompson, name="thompson, sticky, 200 units return", sticky=True, returning=200)
    yield replace(
        thompson, name="thompson, sticky, holdout 0.2, 200 units return", sticky=True, returning=200, holdout=0.2
    )
    yield replace(thompson, name="thompson, sticky, new units, answered .9 and .3", sticky=True, answered=unequal)
    yield replace(thompson, name="thompson, apprentice", apprentice=True)
    yield replace(thompson, name="thompson, subsidy", params={"subsidy": 0.05}, costs=(1.0, 0.1))
    three = replace(thompson, arms=3)
    yield replace(three, name="thompson, third arm added", added=8)
    yield replace(
        three, name="thompson, third arm added, answered .9, .3, .6", added=8, answered=(0.9, 0.3, 0.6), returning=100
    )
    yield replace(three, name="thompson, third arm disabled", disabled=8)
    yield replace(thompson, name="thompson, second arm fails", failing=1.0)
    yield replace(thompson, name="thompson, second arm fails half of the time", failing=0.5, returning=100)
    yield replace(canary, name="canary, challenger fails half of the time", failing=0.5)
    for kind in kinds:
        if kind.strategy == "canary" or kind.policy in (None, "thompson", "ucb1", "lin-thompson", "lin-ucb"):
            arms = 2 if kind.contextual or kind.strategy == "canary" else 3
            yield replace(kind, name=f"{kind.name}, harder requests exclude the last arm", arms=arms, excluding=0.4)
    yield replace(
        thompson,
        name="thompson, sticky, holdout 0.2, 200 units return, harder requests exclude the last arm",
        arms=3,
        sticky=True,
        holdout=0.2,
        returning=200,
        excluding=0.4,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """How many of `runs` of a setting ended wrongly."""

    setting: Setting
    runs: int
    promoted: int
    rolled_back: int
    alarmed: int
    trials: float

    @property
    def decided(self) -> int:
        return self.promoted + self.rolled_back

    @property
    def upper_limit(self) -> float:
        """The upper end of the exact two-sided 95 % interval (Clopper & Pearson 1934) of promotions
        and rollbacks."""
        return (
            float(stats.beta.ppf(0.975, self.decided + 1, self.runs - self.decided))
            if self.decided < self.runs
            else 1.0
        )


def measure(setting: Setting, runs: int, seed: int = 1, labels: Labels = labels_of) -> Row:
    """`runs` experiments of a setting."""
    found = [Run(setting, seed + run, labels).end() for run in range(runs)]
    return Row(
        setting,
        runs,
        sum(one.promoted for one in found),
        sum(one.rolled_back for one in found),
        sum(one.alarmed for one in found),
        float(np.mean([one.trials for one in found])),
    )


HEAD = """# Where features meet: what is promoted, rolled back or alarmed of between arms that are alike

{runs} runs of each setting, alpha = {alpha:.0%}, looked at after each batch: 20 of 100 decisions (ucb1, lin-ucb and
lin-thompson 10 of 60). Units that return have a mean each; else the common mean rises from .2 to .7, or with features one arm is
better for some requests and worse for others. Harder requests, where there are any, are two of five, with a third of the mean.
Decisions that enter the evidence are trials.
Made by `python -m benchmarks.crossings --runs {runs}`.

| setting | promoted | rolled back | upper 95 % limit | sample-ratio alarms | trials |
| --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print(HEAD.format(runs=runs, alpha=ALPHA))  # noqa: T201 - a table
    for setting in settings():
        row = measure(setting, runs)
        print(  # noqa: T201 - a table
            f"| {setting.name} | {row.promoted} | {row.rolled_back} | {row.upper_limit:.1%} | {row.alarmed} | {row.trials:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
