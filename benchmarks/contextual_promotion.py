"""Policies that look at the request: how often a rule promotes an arm that is not better on
average, and how soon one that is.

python -m benchmarks.contextual_promotion --runs 200 > docs/tables/contextual-promotion.md
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bandits.arm_models import ArmModels
from bandits.inference.evidence import Bucket, empty
from bandits.inference.verdict import verdict
from bandits.policies import make_contextual
from bandits.policies.allocation import allocate_in_context
from bandits.policies.protocol import ContextualBelief
from bandits.reward import RewardModel
from bandits.statistics import Array

ALPHA = 0.05
HORIZON = 20_000
BATCH = 200
"""Decisions between two looks, each of which learns, weighs and judges what came since the last."""
POLICIES = ("lin-thompson", "logistic-thompson")
FLOORS = (0.01, 0.1)
HEAD = """# Policies that look at the request: which arm is promoted

Runs of {horizon:,} decisions between two arms, looked at each {batch}, alpha = {alpha:.0%}, burn-in 100. One arm answers .30
everywhere. The other .20, and .70 above the 80 % point of a feature ("above": equal on average); .20, and .75 on the middle fifth
("middle": better by .01); .35, and .60 above the 80 % point ("better": by .10).
Made by `python -m benchmarks.contextual_promotion --runs {runs}`.

| world | policy | floor | rule | first promoted | second promoted | wrong, upper 95 % limit | median decisions |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def above(x: Array) -> Array:
    """.30 everywhere; .20, and .70 above the 80 % point: equal on average."""
    return np.stack([np.full(len(x), 0.3), np.where(x > 0.8, 0.7, 0.2)], axis=1)


def middle(x: Array) -> Array:
    """.30 everywhere; .20, and .75 on the middle fifth, which no linear model sees: the second is
    better by .01 on average."""
    return np.stack([np.full(len(x), 0.3), np.where(np.abs(x - 0.5) < 0.1, 0.75, 0.2)], axis=1)


def better(x: Array) -> Array:
    """.30 everywhere; .35, and .60 above the 80 % point: the second is better by .10 on average."""
    return np.stack([np.full(len(x), 0.3), np.where(x > 0.8, 0.6, 0.35)], axis=1)


class Learner:
    """One policy in one experiment: a model an arm of a constant and one feature."""

    def __init__(self, policy: str, arms: int) -> None:
        self.policy = make_contextual(policy)
        self._models = ArmModels(self.policy, RewardModel("binary"), arms, features=2)
        self.count = np.zeros(arms)

    def learn(self, arm: NDArray[np.int64], x: Array, outcome: Array) -> None:
        self.count += np.bincount(arm, minlength=len(self.count))
        self._models.learn(arm, x, outcome)

    def believe(self) -> ContextualBelief:
        return self._models.belief()


def promoted(
    rule: str, policy: str, means: Callable[[Array], Array], floor: float, seed: int, horizon: int = HORIZON
) -> tuple[int, int]:
    """The arm that one experiment promotes, or -1, and after how many decisions."""
    generator = np.random.default_rng(seed)
    arms = means(np.zeros(1)).shape[1]
    learner, evidence = Learner(policy, arms), empty(rule, arms)
    for start in range(0, horizon, BATCH):
        feature = generator.random(BATCH)
        x = np.stack([np.ones(BATCH), feature], axis=1)
        e = allocate_in_context(learner.policy, learner.believe(), x, learner.count, floor=floor, burn_in=100.0)
        arm = (generator.random((BATCH, 1)) > e.cumsum(axis=1)).sum(axis=1).clip(max=arms - 1)
        outcome = (generator.random(BATCH) < means(feature)[np.arange(BATCH), arm]).astype(np.float64)
        evidence = evidence.observe(Bucket(arm, outcome, e, np.full(BATCH, start)))
        learner.learn(arm, x, outcome)
        found = verdict(evidence, ALPHA)
        if found.action == "promote" and found.arm is not None:
            return found.arm, start + BATCH
    return -1, horizon


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: how many of `runs` promoted each arm, and the median decisions until a
    promotion."""

    rule: str
    policy: str
    world: str
    floor: float
    runs: int
    first: int
    second: int
    median: float | None

    @property
    def wrong(self) -> int:
        """Promotions of an arm that is not better on average."""
        return self.first + (self.second if self.world == "above" else 0)

    @property
    def upper_limit(self) -> float:
        """The upper end of the exact two-sided 95 % interval (Clopper & Pearson 1934) of the share
        of wrong promotions."""
        return float(stats.beta.ppf(0.975, self.wrong + 1, self.runs - self.wrong)) if self.wrong < self.runs else 1.0


WORLDS = {world.__name__: world for world in (above, middle, better)}


def measure(rule: str, policy: str, world: str, floor: float, runs: int, seed: int) -> Row:
    found = [promoted(rule, policy, WORLDS[world], floor, seed + run) for run in range(runs)]
    arms, ended = [arm for arm, _ in found], [pulls for arm, pulls in found if arm >= 0]
    median = float(np.median(ended)) if ended else None
    return Row(rule, policy, world, floor, runs, arms.count(0), arms.count(1), median)


def rows(runs: int, rules: tuple[str, ...] = ("weighted", "design")) -> Iterator[Row]:
    """Every setting of the table."""
    for world in WORLDS:
        for policy in POLICIES:
            for floor in FLOORS:
                for rule in rules:
                    # A quarter of the runs tells the tenth and more of the design rule from a
                    # twentieth.
                    some = runs if rule == "weighted" else max(runs // 4, 1)
                    yield measure(rule, policy, world, floor, some, 20_261_125)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print(HEAD.format(horizon=HORIZON, batch=BATCH, alpha=ALPHA, runs=runs))  # noqa: T201 - a table
    for row in rows(runs):
        median = "-" if row.median is None else f"{row.median:,.0f}"
        print(  # noqa: T201 - a table
            f"| {row.world} | {row.policy} | {row.floor:g} | {row.rule} | {row.first} of {row.runs} | {row.second} of {row.runs} "
            f"| {row.upper_limit:.1%} | {median} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
