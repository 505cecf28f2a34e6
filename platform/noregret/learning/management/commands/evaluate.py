"""`manage.py evaluate`: what another policy would have earned on logged traffic."""

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from bandits import policies
from noregret.experiments import document as documents
from noregret.experiments.errors import Invalid
from noregret.experiments.models import Experiment
from noregret.learning import evaluation
from noregret.planning.arguments import parameters

_TITLES = {
    "ips": "importance weighting",
    "snips": "self-normalised",
    "dr": "doubly robust",
    "switch_dr": "doubly robust, extreme weights left to the model",
}


class Command(BaseCommand):
    help = "Tells what a policy would have earned on an experiment's logged traffic, or on that of a decisions.ndjson file."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--experiment", help="name of an experiment in the ledger")
        source.add_argument("--file", type=Path, metavar="FILE.ndjson", help="lines as decisions.ndjson has them")
        parser.add_argument("--policy", required=True, help=f"one of {', '.join(policies.names())}")
        parser.add_argument("--params", type=parameters, default={}, help='the policy\'s, as JSON: {"alpha": 0.5}')
        parser.add_argument(
            "--context", type=Path, help="with --file: JSON of the context's fields, as an experiment declares them"
        )
        parser.add_argument(
            "--reward", choices=("binary", "continuous", "count"), help="with --file: the reward's kind"
        )
        parser.add_argument("--direction", choices=("maximize", "minimize"), default="maximize", help="with --file")
        parser.add_argument(
            "--floor", type=float, default=0.0, help="with --file: the target's least share of every arm"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = self._of_file(options) if options["file"] else self._of_experiment(options)
        except (evaluation.NotEvaluated, evaluation.LineInvalid) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(found))
        else:
            self._tell(found)
        if found["refused"]:
            raise CommandError(found["refused"])

    def _of_experiment(self, options: dict[str, Any]) -> dict[str, Any]:
        experiment = Experiment.objects.filter(name=options["experiment"]).first()
        if experiment is None:
            raise CommandError(f"there is no experiment {options['experiment']}")
        return evaluation.of_experiment(experiment, options["policy"], options["params"])

    def _of_file(self, options: dict[str, Any]) -> dict[str, Any]:
        fields: list[Any] = []
        try:
            if options["context"]:
                declared = msgspec.json.decode(options["context"].read_bytes(), type=documents.Context)
                documents.check_context(declared)
                fields = msgspec.to_builtins(declared.fields)
            with options["file"].open("rb") as lines:
                return evaluation.of_lines(
                    lines,
                    options["policy"],
                    options["params"],
                    kind=options["reward"],
                    direction=options["direction"],
                    fields=fields,
                    floor=options["floor"],
                )
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        except (msgspec.DecodeError, Invalid) as error:
            raise CommandError(f"{options['context']}: {error}") from error

    def _tell(self, found: dict[str, Any]) -> None:
        console = Console(width=110)
        with console.capture() as written:
            console.print(f"{found['policy']} on {found['decisions']:,} logged decisions with a reward")
            if not found["refused"]:
                table = Table()
                table.add_column("")
                for heading in ("mean reward", "95 % interval", "effective sample size"):
                    table.add_column(heading, justify="right")
                rows = [("as logged", found["logged"])]
                rows += [(f"{name}, {_TITLES[name]}", estimate) for name, estimate in found["estimates"].items()]
                for title, estimate in rows:
                    low, high = estimate["interval"]
                    table.add_row(
                        title,
                        f"{estimate['value']:.4f}",
                        f"{low:.4f} – {high:.4f}",
                        f"{estimate['effective_sample_size']:,.0f}",
                    )
                console.print(table)
                shares = ", ".join(f"{arm} {share:.1%}" for arm, share in found["shares"].items())
                console.print(f"It would have chosen {shares}.")
                for warning in found["warnings"]:
                    console.print(f"Warning: {warning}.")
        self.stdout.write(written.get(), ending="")
