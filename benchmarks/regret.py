"""What policies lose where rewards come late or are not what their family says: the table in
docs/tables/regret.md.

python -m benchmarks.regret --runs 200 > docs/tables/regret.md
"""

import argparse

from bandits.simulation import Simulation, bernoulli, poisson, simulate

HORIZON = 3000
BATCH = 15
DISPERSIONS = (1.0, 3.0, 10.0, 30.0)
DELAYS = (0, 300, 1500)
SEED = 20_261_125
FORSAKEN = 0.05


def _cells(found: Simulation, best: int) -> str:
    """Regret with its standard error, and in how many runs the best arm got under a twentieth of
    the pulls."""
    error = float(found.final.std(ddof=1)) / len(found.final) ** 0.5
    forsaken = int((found.pulls[:, best] < FORSAKEN * HORIZON).sum())
    return f"{found.final.mean():,.0f} ± {error:,.0f} | {forsaken} of {len(found.final)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    runs = parser.parse_args().runs
    print(  # noqa: T201 - a table
        f"# Regret where rewards come late, or are not what their family says\n\n"
        f"{HORIZON:,} pulls, what is known changes each {BATCH}. *Forsaken*: the best arm got under a twentieth of the pulls. "
        f"Made by\n`python -m benchmarks.regret --runs {runs}`.\n\n"
        f"| arms | setting | policy | regret | forsaken |\n| --- | --- | --- | --- | --- |"
    )
    for dispersion in DISPERSIONS:
        for policy in ("thompson", "bayes-ucb"):
            found = simulate(policy, poisson([2.0, 2.5], dispersion=dispersion), HORIZON, runs, SEED, batch=BATCH)
            print(f"| counts 2, 2.5 | dispersion {dispersion:g} | `{policy}` | {_cells(found, 1)} |", flush=True)  # noqa: T201
    for delay in DELAYS:
        for policy in ("thompson", "ucb1", "ucb-tuned", "kl-ucb", "bayes-ucb"):
            found = simulate(policy, bernoulli([0.5, 0.6]), HORIZON, runs, SEED, batch=BATCH, delay=delay)
            print(f"| binary .5, .6 | delay {delay:,} | `{policy}` | {_cells(found, 1)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
