"""The sample ratio, watched: alarms of sound experiments, and of ones whose traffic goes astray.

python -m benchmarks.sample_ratio --runs 100 > docs/tables/sample-ratio.md
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bandits.inference.sample_ratio import ALARM, SampleRatio, sample_ratio_p
from bandits.statistics import Array

SOUND, ASTRAY = 1_000_000, 20_000
LOOK_EVERY = 10_000
SHARE = 0.05
"""Of the traffic goes to the first arm, whatever was drawn."""


def even(n: int, arms: int, generator: np.random.Generator) -> Array:
    """A fixed split."""
    return np.full((n, arms), 1.0 / arms)


def learned(n: int, arms: int, generator: np.random.Generator) -> Array:
    """Other propensities each hundred decisions, none below a twenty-fifth of an even share."""
    snapshots = generator.dirichlet(np.ones(arms), -(-n // 100)) * 0.96 + 0.04 / arms
    return np.repeat(snapshots, 100, axis=0)[:n]


def by_request(n: int, arms: int, generator: np.random.Generator) -> Array:
    """Other propensities with each decision, as of a policy that looks at the request."""
    return generator.dirichlet(np.full(arms, 0.3), n) * 0.96 + 0.04 / arms


PROPENSITIES: tuple[Callable[[int, int, np.random.Generator], Array], ...] = (even, learned, by_request)


@dataclass(frozen=True, slots=True)
class Row:
    """How many of `runs` ever alarmed: by the martingale, and by a chi-squared test at the same
    looks."""

    propensities: str
    arms: int
    astray: bool
    runs: int
    alarms: int
    chi_squared: int


def alarmed(
    propensities: Callable[[int, int, np.random.Generator], Array], arms: int, astray: bool, seed: int
) -> tuple[bool, bool]:
    """Did either test ever alarm in one experiment?"""
    generator, watched = np.random.default_rng(seed), SampleRatio.zeros(arms)
    martingale = chi_squared = False
    for _ in range(0, ASTRAY if astray else SOUND, LOOK_EVERY):
        e = propensities(LOOK_EVERY, arms, generator)
        arm = (generator.random((LOOK_EVERY, 1)) > e.cumsum(axis=1)).sum(axis=1).clip(max=arms - 1)
        if astray:
            arm[generator.random(LOOK_EVERY) < SHARE] = 0
        watched = watched.observe(arm, e)
        p, old = watched.p, sample_ratio_p(watched.seen.tolist(), watched.expected.tolist())
        martingale |= p is not None and p < ALARM
        chi_squared |= old is not None and old < ALARM
    return martingale, chi_squared


def rows(runs: int) -> Iterator[Row]:
    """Every setting of the table; a million decisions take longer, and get a fifth of the runs."""
    for astray in (False, True):
        some = runs if astray else max(runs // 5, 1)
        for propensities in PROPENSITIES:
            for arms in (2, 5):
                found = [alarmed(propensities, arms, astray, seed) for seed in range(some)]
                name = propensities.__name__.replace("_", " ")
                yield Row(name, arms, astray, some, sum(one for one, _ in found), sum(two for _, two in found))


HEAD = """# The sample ratio, watched

Looked at each {look:,} decisions, alarm at p < {alarm:g}. Sound: {sound:,} decisions that go as logged.
Astray: {astray:,} decisions, of which {share:.0%} go to the first arm whatever was drawn.
Made by `python -m benchmarks.sample_ratio --runs {runs}`.

| traffic | propensities | arms | alarmed | by a chi-squared test |
| --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    print(HEAD.format(look=LOOK_EVERY, alarm=ALARM, sound=SOUND, astray=ASTRAY, share=SHARE, runs=runs))  # noqa: T201 - a table
    for row in rows(runs):
        print(  # noqa: T201 - a table
            f"| {'astray' if row.astray else 'sound'} | {row.propensities} | {row.arms} | {row.alarms} of {row.runs} "
            f"| {row.chi_squared} of {row.runs} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
