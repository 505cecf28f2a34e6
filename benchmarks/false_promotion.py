"""How often equal arms end with a promotion, by rule: the table in docs/statistics.md.

python -m benchmarks.false_promotion --runs 500 > docs/tables/false-promotion.md
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from scipy import stats

from bandits.simulation import bernoulli, simulate_promotion
from bandits.simulation.promotion import Rule

ALPHA = 0.05
RATES = (0.02, 0.05, 0.2, 0.5, 0.9)
ARMS = (2, 3, 5)
CHECKS = (10, 100)
HORIZON = 10_000
DRIFT_PERIOD = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, and how many of how many runs promoted under each rule."""

    rate: float
    arms: int
    check_every: int
    drift: bool
    anytime: tuple[int, int]
    probability_best: tuple[int, int]

    @property
    def upper_limit(self) -> float:
        """The upper end of the exact two-sided 95 % interval (Clopper & Pearson 1934) of the
        anytime rule's share."""
        promoted, runs = self.anytime
        return float(stats.beta.ppf(0.975, promoted + 1, runs - promoted)) if promoted < runs else 1.0


def measure(rate: float, arms: int, check_every: int, drift: bool, runs: int, seed: int, rule: Rule = "anytime") -> Row:
    """`runs` experiments of HORIZON pulls between arms that are equal, under Thompson sampling with
    a floor of 1 %."""
    wave = (DRIFT_PERIOD, 0.5 * min(rate, 1.0 - rate)) if drift else None
    environment = bernoulli([rate] * arms, drift=wave)
    anytime = simulate_promotion(
        "thompson", environment, HORIZON, runs, seed, alpha=ALPHA, check_every=check_every, update_every=100, rule=rule
    )
    # Checked each 10 pulls P(best) costs ten times as much, and far fewer runs tell a half from a
    # twentieth.
    fewer = min(runs, 500) if check_every >= 100 else min(max(runs // 5, 1), 100)
    best = simulate_promotion(
        "thompson",
        environment,
        HORIZON,
        fewer,
        seed,
        check_every=check_every,
        update_every=100,
        rule="probability-best",
        threshold=0.95,
    )
    return Row(
        rate,
        arms,
        check_every,
        drift,
        (int((anytime.promoted >= 0).sum()), runs),
        (int((best.promoted >= 0).sum()), fewer),
    )


def runs_for(arms: int, runs: int) -> int:
    """Between two arms the rule comes nearest to its bound, and a run is cheapest: four times as
    many tell 3 % from 5 %."""
    return 4 * runs if arms == 2 else runs


def rows(runs: int, of_arms: tuple[int, ...] = ARMS, seed: int = 20_261_123, rule: Rule = "anytime") -> Iterator[Row]:
    """Every setting of the table."""
    for arms in of_arms:
        for rate in RATES:
            for check_every in CHECKS:
                for drift in (False, True):
                    seed += 1
                    yield measure(rate, arms, check_every, drift, runs_for(arms, runs), seed, rule)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument(
        "--rule", choices=("anytime", "conditional", "design"), default="anytime", help="the rule held to it"
    )
    parser.add_argument("--arms", type=int, choices=ARMS, help="only so many arms")
    arguments = parser.parse_args()
    print("| arms | rate | checked each | drift | anytime promoted | upper 95 % limit | P(best) > 95 % promoted |")  # noqa: T201 - a table
    print("| --- | --- | --- | --- | --- | --- | --- |")  # noqa: T201
    for row in rows(arguments.runs, ARMS if arguments.arms is None else (arguments.arms,), rule=arguments.rule):
        promoted, runs = row.anytime
        wrong, fewer = row.probability_best
        print(  # noqa: T201
            f"| {row.arms} | {row.rate:g} | {row.check_every} | {'yes' if row.drift else 'no'} | {promoted} of {runs} "
            f"| {row.upper_limit:.1%} | {wrong / fewer:.0%} of {fewer} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
