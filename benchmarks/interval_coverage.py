"""How often intervals hold what they claim to, by setting: the tables in docs/statistics.md.

python -m benchmarks.interval_coverage --runs 1000 > docs/tables/interval-coverage.md
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bandits.inference.even_split import EvenSplit, saved
from bandits.inference.intervals import combined, interval
from bandits.inference.units import UnitSums, of_units
from bandits.policies import make
from bandits.policies.allocation import with_burn_in, with_floor
from bandits.reward import RewardModel
from bandits.simulation import Environment, bernoulli, contextual_logistic, simulate_intervals
from bandits.statistics import ArmStatistics

SEED = 20_261_125


@dataclass(frozen=True, slots=True)
class Setting:
    """A policy in a world. `part`: how many of the runs that were asked for, where one takes
    long."""

    says: str
    environment: Environment
    floor: float
    pulls: int
    policy: str = "thompson"
    params: dict[str, Any] = field(default_factory=dict)
    part: float = 1.0


ARMS = (
    Setting(".01, .02", bernoulli([0.01, 0.02]), 0.01, 10_000),
    Setting(".01, .02", bernoulli([0.01, 0.02]), 0.05, 10_000),
    Setting(".002, .003", bernoulli([0.002, 0.003]), 0.05, 10_000),
    Setting(".985, .999", bernoulli([0.985, 0.999]), 0.01, 3000),
    Setting(".05, .06", bernoulli([0.05, 0.06]), 0.01, 1000),
    Setting(".62, .86, .956", bernoulli([0.62, 0.86, 0.956]), 0.01, 3000),
    Setting(".05, .06", bernoulli([0.05, 0.06]), 0.01, 5000, "top-two-thompson"),
    Setting(".05, .06", bernoulli([0.05, 0.06]), 0.01, 3000, "kl-ucb", part=0.5),
    Setting(
        ".3, .5, drifting by .2",
        bernoulli([0.3, 0.5], drift=(500, 0.2)),
        0.01,
        3000,
        params={"discount": 0.99},
        part=0.5,
    ),
    Setting(
        ".3, .5, drifting by .2",
        bernoulli([0.3, 0.5], drift=(500, 0.2)),
        0.01,
        3000,
        params={"sliding_window": 300},
        part=0.5,
    ),
    Setting(
        "log-odds -2 + 2x, -1",
        contextual_logistic([[-2.0, 2.0], [-1.0, 0.0]]),
        0.01,
        1000,
        "logistic-thompson",
        part=0.2,
    ),
)


def arms(runs: int) -> Iterator[str]:
    """Coverage of each arm's interval at the end, and how often the watched one was ever missed."""
    yield "| means | policy | floor | pulls | runs | interval covers, by arm | watched ever missed, by arm |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for i, setting in enumerate(ARMS):
        some = max(int(runs * setting.part), 2)
        found = simulate_intervals(
            setting.policy,
            setting.environment,
            setting.pulls,
            some,
            SEED + i,
            floor=setting.floor,
            params=setting.params or None,
        )
        of_policy = ", ".join([setting.policy, *(f"{name} {value}" for name, value in setting.params.items())])
        yield (
            f"| {setting.says} | {of_policy} | {setting.floor:.0%} | {setting.pulls:,} | {some:,} | {_shares(found.covered)} "
            f"| {_shares(found.ever_missed)} |"
        )


def _shares(held: Any) -> str:
    return ", ".join(f"{share:.1%}" for share in held.mean(axis=0))


def even_split(runs: int) -> Iterator[str]:
    """Coverage of what was saved against an even split, and how often a gain is told."""
    yield "| means | decisions | runs | interval covers | a gain is told | by raw means a gain was told |"
    yield "| --- | --- | --- | --- | --- | --- |"
    settings = (
        ([0.05] * 5, 5000),
        ([0.3] * 5, 5000),
        ([0.01] * 5, 5000),
        ([0.05] * 2, 5000),
        ([0.9] * 2, 1000),
        ([0.05, 0.06], 5000),
        ([0.62, 0.86, 0.956], 2000),
    )
    for i, (means, decisions) in enumerate(settings):
        covered, gain, raw = saved_runs(means, decisions, runs, SEED + 100 + i)
        says = f"{means[0]:g} x {len(means)}" if len(set(means)) == 1 else ", ".join(f"{mean:g}" for mean in means)
        yield f"| {says} | {decisions:,} | {runs:,} | {covered:.1%} | {gain:.1%} | {raw:.1%} |"


def saved_runs(
    means: list[float], decisions: int, runs: int, seed: int, floor: float = 0.01, burn_in: int = 100, batch: int = 100
) -> tuple[float, float, float]:
    """(share of runs whose interval covers, whose interval is above 0, whose comparison of raw
    means is above 0), Thompson sampling."""
    rng = np.random.default_rng(seed)
    truth, reward, policy, count = np.array(means), RewardModel(), make("thompson"), len(means)
    known, gained = ArmStatistics.zeros(runs, count), np.zeros(runs)
    sums = [EvenSplit(ArmStatistics.zeros(3, count), np.zeros(count)) for _ in range(runs)]
    for _ in range(0, decisions, batch):
        shares = with_floor(with_burn_in(policy.propensities(known, reward), known.count, burn_in), floor)
        arm = (rng.random((runs, batch, 1)) >= np.cumsum(shares, axis=1)[:, None, :-1]).sum(axis=-1)
        value = (rng.random(arm.shape) < truth[arm]).astype(np.float64)
        gained += truth[arm].sum(axis=1) - batch * truth.mean()
        flat = ArmStatistics.from_rewards((arm + count * np.arange(runs)[:, None]).ravel(), value.ravel(), runs * count)
        known = known + ArmStatistics(*(part.reshape(runs, count) for part in (flat.count, flat.mean, flat.m2)))
        for i in range(runs):
            sums[i] += EvenSplit.of(arm[i], value[i], np.tile(shares[i], (batch, 1)))
    found = [(saved(one, reward), gain) for one, gain in zip(sums, gained, strict=True)]
    told = [(one, gain) for one, gain in found if one is not None]
    raw = (known.count * (known.mean - known.mean.mean(axis=1, keepdims=True))).sum(axis=1)
    return (
        float(np.mean([one.low <= gain <= one.high for one, gain in told])),
        float(np.mean([one.low > 0 for one, _ in told])),
        float((raw > 0).mean()),
    )


def units(runs: int) -> Iterator[str]:
    """Coverage where units return, each with its own mean: both sides of a holdout, and the
    benefit."""
    yield "| units | held out | mean of units' means | visits a unit | runs with two units a side | benefit | bandit | holdout |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    rng = np.random.default_rng(SEED + 200)
    for count in (20, 50, 200):
        for share in (0.1, 0.2):
            for mean, spread in ((0.3, "Beta(.6, 1.4)"), (0.05, "Beta(.1, 1.9)")):
                for visits in (1, 20):
                    found = np.array(
                        [
                            ends
                            for _ in range(runs)
                            if (ends := holdout_run(rng, count, share, mean, visits)) is not None
                        ]
                    )
                    benefit, bandit, out = found.mean(axis=0)
                    yield (
                        f"| {count} | {share:.0%} | {mean:g}, {spread} | {visits} | {len(found):,} | {benefit:.1%} | {bandit:.1%} "
                        f"| {out:.1%} |"
                    )


def holdout_run(
    rng: np.random.Generator, count: int, share: float, mean: float, visits: int
) -> tuple[bool, bool, bool] | None:
    """Of equal sides: do the intervals of (benefit, bandit's mean, holdout's mean) cover? None with
    fewer than two units on a side."""
    held_out = rng.random(count) < share
    came = (1 + rng.poisson(visits - 1, count)).astype(np.float64)
    total = rng.binomial(came.astype(np.int64), rng.beta(2 * mean, 2 * (1 - mean), count)).astype(np.float64)
    if min(held_out.sum(), (~held_out).sum()) < 2:
        return None
    sums = [UnitSums.of(came[side], total[side]) for side in (~held_out, held_out)]
    stacked = UnitSums(*(np.array([getattr(one, name) for one in sums]) for name in UnitSums.__slots__))
    means = np.array([total[side].sum() / came[side].sum() for side in (~held_out, held_out)])
    low, high = interval(of_units(stacked, means), RewardModel())
    ends = combined(float(means[0] - means[1]), np.array([1.0, -1.0]), means, low, high)
    return ends[0] <= 0.0 <= ends[1], bool(low[0] <= mean <= high[0]), bool(low[1] <= mean <= high[1])


PARTS = {"arms": arms, "units": units, "even-split": even_split}
TITLES = {
    "arms": "Intervals of arms: 95 % at one moment, and watched (checked each 100 pulls), after a burn-in of 100",
    "units": "Units that return, each with a mean of its own: two equal sides, 95 %",
    "even-split": "Saved against an even split: Thompson sampling, floor 1 %, burn-in 100, 95 %",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--part", choices=list(PARTS), help="only this table")
    arguments = parser.parse_args()
    for part in [arguments.part] if arguments.part else list(PARTS):
        print(f"{TITLES[part]}:\n")  # noqa: T201 - a table
        for line in PARTS[part](arguments.runs):
            print(line, flush=True)  # noqa: T201
        print()  # noqa: T201


if __name__ == "__main__":
    main()
