"""The design-based and the conditional rule on the same experiments: false promotion where arms are
alike, power where they are not.

python -m benchmarks.evidence_rules --runs 400 > docs/tables/evidence-rules.md
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bandits.simulation import bernoulli, simulate_promotion
from bandits.simulation.environments import Environment
from bandits.simulation.promotion import Rule

ALPHA = 0.05
RULES: tuple[Rule, ...] = ("conditional", "design")
RISING = bernoulli([0.2, 0.2], changes=[(100 * k, [0.2 + 0.5 * k / 60] * 2) for k in range(1, 60)])


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated. `answered`: each arm's rate of feedback, silence meaning nothing."""

    name: str
    environment: Environment
    horizon: int
    policy: str = "thompson"
    floor: float = 0.01
    answered: tuple[float, float] | None = None
    update_every: int = 100


def settings() -> Iterator[Setting]:
    """Arms that are alike first, then one that is better."""
    yield Setting("equal .05", bernoulli([0.05, 0.05]), 20_000)
    yield Setting("equal .5, drift of .25", bernoulli([0.5, 0.5], drift=(1000, 0.25)), 10_000)
    for answered in ((0.9, 0.3), (0.9, 0.1)):
        yield Setting(".2 rising to .7", RISING, 6000, answered=answered)
        for rate in (0.05, 0.9, 0.97):
            yield Setting(f"equal {rate:g}".replace("0.", "."), bernoulli([rate, rate]), 6000, answered=answered)
    yield Setting(".05 against .06", bernoulli([0.05, 0.06]), 50_000, policy="uniform")
    yield Setting(".05 against .06", bernoulli([0.05, 0.06]), 50_000, policy="uniform", update_every=20)
    yield Setting(".05 against .06", bernoulli([0.05, 0.06]), 50_000, policy="top-two-thompson", update_every=500)
    yield Setting(".6 against .7", bernoulli([0.6, 0.7]), 5000, floor=0.05)
    yield Setting(".01 against .02", bernoulli([0.01, 0.02]), 20_000, policy="uniform")


@dataclass(frozen=True, slots=True)
class Row:
    """One rule in one setting: promotions of the second arm and of the first, which is never the
    better."""

    setting: Setting
    rule: Rule
    runs: int
    first: int
    second: int
    median: float | None

    @property
    def wrong(self) -> int:
        alike = "against" not in self.setting.name
        return self.first + (self.second if alike else 0)

    @property
    def upper_limit(self) -> float:
        """The upper end of the exact two-sided 95 % interval (Clopper & Pearson 1934) of the share
        of wrong promotions."""
        return float(stats.beta.ppf(0.975, self.wrong + 1, self.runs - self.wrong)) if self.wrong < self.runs else 1.0


def measure(setting: Setting, rule: Rule, runs: int, seed: int = 37) -> Row:
    """`runs` experiments looked at each 100 decisions, or at each update where that is sooner."""
    found = simulate_promotion(
        setting.policy,
        setting.environment,
        setting.horizon,
        runs,
        seed,
        alpha=ALPHA,
        check_every=min(setting.update_every, 100),
        floor=setting.floor,
        rule=rule,
        update_every=setting.update_every,
        answered=setting.answered,
    )
    ended = found.pulls[found.promoted >= 0]
    median = float(np.median(ended)) if len(ended) else None
    return Row(setting, rule, runs, int((found.promoted == 0).sum()), int((found.promoted == 1).sum()), median)


HEAD = """# Two rules of evidence on the same experiments

Two arms, alpha = {alpha:.0%}, looked at each 100 decisions or sooner. "Answered": the arms' rates of feedback, where silence means nothing.
Made by `python -m benchmarks.evidence_rules --runs {runs}`.

| setting | policy | update each | answered | rule | first promoted | second promoted | wrong, upper 95 % limit | median decisions |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    print(HEAD.format(alpha=ALPHA, runs=runs))  # noqa: T201 - a table
    for setting in settings():
        answered = "all" if setting.answered is None else " and ".join(f"{rate:g}" for rate in setting.answered)
        for rule in RULES:
            row = measure(setting, rule, runs)
            median = "-" if row.median is None else f"{row.median:,.0f}"
            print(  # noqa: T201 - a table
                f"| {setting.name} | {setting.policy} | {setting.update_every} | {answered} | {rule} | {row.first / runs:.1%} "
                f"| {row.second / runs:.1%} | {row.upper_limit:.1%} | {median} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
