"""`manage.py simulate`: what policies lose on an environment, in many seeded runs."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from bandits import policies, simulation
from noregret.planning import chart
from noregret.planning.arguments import names, natural, numbers, parameters, positive


class Command(BaseCommand):
    help = "Simulates policies on arms whose means are known, and tells what they lose against always playing the best."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--policy", type=names, required=True, help=f"one, or several with commas: {', '.join(policies.names())}"
        )
        worlds = parser.add_mutually_exclusive_group(required=True)
        worlds.add_argument("--bernoulli", type=numbers, metavar="MEANS", help="arms with rewards 0 and 1, as 0.1,0.05")
        worlds.add_argument("--normal", type=numbers, metavar="MEANS", help="arms with normal rewards, as 1,0.5,0")
        worlds.add_argument("--poisson", type=numbers, metavar="RATES", help="arms with counts, as 2,2.5")
        parser.add_argument(
            "--std", type=numbers, default=[1.0], help="with --normal: one deviation, or one an arm (default 1)"
        )
        parser.add_argument(
            "--dispersion",
            type=float,
            default=1.0,
            help="with --poisson: the counts' variance over their rate (default 1)",
        )
        parser.add_argument("--horizon", type=positive, default=10_000, help="pulls a run (default 10000)")
        parser.add_argument("--runs", type=positive, default=200, help="runs (default 200)")
        parser.add_argument("--seed", type=natural, default=1, help="the same seed gives the same numbers (default 1)")
        parser.add_argument(
            "--batch", type=positive, default=1, help="pulls between two updates of what is known (default 1)"
        )
        parser.add_argument("--delay", type=natural, default=0, help="pulls after which a reward is known (default 0)")
        parser.add_argument("--params", type=parameters, default={}, help='the policy\'s, as JSON: {"discount": 0.99}')
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--plot", type=Path, metavar="FILE.png", help="write the regret curves as a picture")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            environment = self._environment(options)
            found = {
                name: simulation.simulate(
                    name,
                    environment,
                    options["horizon"],
                    options["runs"],
                    options["seed"],
                    params=options["params"],
                    batch=options["batch"],
                    delay=options["delay"],
                )
                for name in options["policy"]
            }
        except ValueError as error:
            raise CommandError(str(error)) from error
        best = int(np.argmax(environment.means))
        rows = [_row(name, result, best, options) for name, result in found.items()]
        if options["plot"]:
            title = f"Regret of {', '.join(found)} on {self._words(options)}"
            try:
                chart.draw(options["plot"], [(name, result.regret) for name, result in found.items()], title)
            except (OSError, ValueError) as error:
                raise CommandError(f"{options['plot']}: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(rows[0] if len(rows) == 1 else {"policies": rows}))
            return
        table = Table(
            title=f"{self._words(options)}, {options['horizon']:,} pulls, {options['runs']:,} runs, seed {options['seed']}",
            title_justify="left",
        )
        table.add_column("policy")
        for heading in ("mean regret", "standard error", "share of the best arm"):
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(
                row["policy"],
                f"{row['mean_regret']:,.2f}",
                f"{row['standard_error']:.2f}",
                f"{row['best_arm_share']:.1%}",
            )
        console = Console(width=100)
        with console.capture() as written:
            console.print(table)
            console.print("Regret: reward lost against always playing the best arm.")
            if options["plot"]:
                console.print(f"Curves written to {options['plot']}", soft_wrap=True)
        self.stdout.write(written.get(), ending="")

    def _environment(self, options: dict[str, Any]) -> Any:
        if options["bernoulli"] is not None:
            return simulation.bernoulli(options["bernoulli"])
        if options["poisson"] is not None:
            return simulation.poisson(options["poisson"], dispersion=options["dispersion"])
        stds = options["std"]
        if len(stds) not in (1, len(options["normal"])):
            raise ValueError(f"--std has {len(stds)} numbers: 1 or {len(options['normal'])} were expected")
        return simulation.normal(options["normal"], stds[0] if len(stds) == 1 else stds)

    def _words(self, options: dict[str, Any]) -> str:
        kind = next(kind for kind in ("bernoulli", "normal", "poisson") if options[kind] is not None)
        return f"{kind} arms {', '.join(f'{mean:g}' for mean in options[kind])}"


def _row(name: str, result: simulation.Simulation, best: int, options: dict[str, Any]) -> dict[str, Any]:
    final, runs = result.final, len(result.final)
    return {
        "policy": name,
        "horizon": options["horizon"],
        "runs": options["runs"],
        "mean_regret": float(final.mean()),
        "standard_error": float(final.std(ddof=1) / np.sqrt(runs)) if runs > 1 else None,
        "best_arm_share": float(result.pulls[:, best].sum() / result.pulls.sum()),
    }
