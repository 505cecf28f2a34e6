"""`manage.py evaluate`: what another policy would have earned on logged traffic."""

import argparse
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from bandits import policies
from noregret.experiments import document as documents
from noregret.experiments import document_check
from noregret.experiments.errors import Invalid
from noregret.experiments.models import Experiment
from noregret.learning.shown import evaluation, evaluation_of_file
from noregret.planning.arguments import parameters
from noregret.rest.encoding import encoded

_OF_FILES = {
    "reward": "kind",
    "direction": "direction",
    "minimum": "minimum",
    "maximum": "maximum",
    "window": "window_seconds",
    "default": "default",
    "as_of": "as_of",
    "floor": "floor",
}
"""Options that tell what a file does not, and the term that each tells."""


def moment(text: str) -> datetime:
    """`2026-11-23T10:00:00Z`"""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r}: a time with its zone was expected, as 2026-11-23T10:00:00Z")
    return found


class Command(BaseCommand):
    help = "Tells what a policy would have earned on an experiment's logged traffic, or on that of a decisions.ndjson file."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            help="name of an experiment: its ledger is read, or with --file its reward, window and policy",
        )
        parser.add_argument("--file", type=Path, metavar="FILE.ndjson", help="lines as decisions.ndjson has them")
        parser.add_argument("--policy", required=True, help=f"one of {', '.join(policies.names())}")
        parser.add_argument("--params", type=parameters, default={}, help='the policy\'s, as JSON: {"alpha": 0.5}')
        parser.add_argument(
            "--context", type=Path, help="with --file: JSON of the context's fields, as an experiment declares them"
        )
        parser.add_argument(
            "--reward", choices=("binary", "continuous", "count"), help="with --file: the reward's kind"
        )
        parser.add_argument("--direction", choices=("maximize", "minimize"), help="with --file; maximize without it")
        parser.add_argument("--minimum", type=float, help="with --file: the least possible reward")
        parser.add_argument("--maximum", type=float, help="with --file: the greatest possible reward")
        parser.add_argument(
            "--window",
            type=float,
            metavar="SECONDS",
            help="with --file: the reward's attribution window; decisions that are still open are left out",
        )
        parser.add_argument(
            "--default", type=float, metavar="VALUE", help="with --file: the reward of a decision without feedback"
        )
        parser.add_argument(
            "--as-of",
            type=moment,
            metavar="TIME",
            help="with --file: when it was made, as 2026-11-23T10:00:00Z; without it the latest time in it",
        )
        parser.add_argument("--floor", type=float, help="with --file: the target's least share of every arm")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["file"] and not options["experiment"]:
            raise CommandError("--experiment or --file is needed")
        misplaced = [name for name in _OF_FILES if options[name] is not None and not options["file"]]
        if misplaced:
            raise CommandError(f"--{misplaced[0].replace('_', '-')} is for --file: an experiment has its own")
        experiment = self._experiment(options["experiment"]) if options["experiment"] else None
        try:
            if options["file"]:
                found = self._of_file(options, experiment)
            else:
                assert experiment is not None
                found = evaluation.of_experiment(experiment, options["policy"], options["params"])
        except (evaluation.NotEvaluated, evaluation_of_file.LineInvalid) as error:
            hint = ": give --window, and --default" if getattr(error, "field", "") == "window" else ""
            raise CommandError(f"{error}{hint}") from error
        if options["json"]:
            self.stdout.write(encoded(found).decode())
        else:
            self._tell(found)
        if found.refused:
            raise CommandError(found.refused)

    def _experiment(self, name: str) -> Experiment:
        experiment = Experiment.objects.filter(name=name).first()
        if experiment is None:
            raise CommandError(f"there is no experiment {name}")
        return experiment

    def _of_file(self, options: dict[str, Any], experiment: Experiment | None) -> evaluation.Evaluation:
        terms = evaluation_of_file.FileTerms() if experiment is None else evaluation_of_file.FileTerms.of(experiment)
        told = {term: options[name] for name, term in _OF_FILES.items() if options[name] is not None}
        try:
            if options["context"]:
                declared = msgspec.json.decode(options["context"].read_bytes(), type=documents.Context)
                document_check.check_context(declared)
                told["fields"] = msgspec.to_builtins(declared.fields)
            with options["file"].open("rb") as lines:
                return evaluation_of_file.of_lines(lines, options["policy"], options["params"], replace(terms, **told))
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        except (msgspec.DecodeError, Invalid) as error:
            raise CommandError(f"{options['context']}: {error}") from error

    def _tell(self, found: evaluation.Evaluation) -> None:
        console = Console(width=110)
        with console.capture() as written:
            console.print(f"{found.policy} on {found.decisions:,} logged decisions with a reward")
            left_out = evaluation.left_out_in_words(found)
            if left_out:
                console.print(f"Left out: {left_out}.")
            if found.logged is not None:
                table = Table()
                table.add_column("")
                for heading in ("mean reward", "95 % interval", "effective sample size", "successes"):
                    table.add_column(heading, justify="right")
                rows = [("as logged", found.logged)]
                rows += [
                    (f"{name}, {evaluation.ESTIMATORS[name]}", estimate) for name, estimate in found.estimates.items()
                ]
                for title, estimate in rows:
                    interval = estimate.interval
                    table.add_row(
                        title,
                        f"{estimate.value:.4f}",
                        "not known" if interval is None else f"{interval[0]:.4f} – {interval[1]:.4f}",
                        f"{estimate.effective_sample_size:,.0f}",
                        f"{estimate.successes:,.0f}",
                    )
                console.print(table)
                shares = ", ".join(f"{arm} {share:.1%}" for arm, share in found.shares.items())
                console.print(f"It would have chosen {shares}.")
                for warning in found.warnings:
                    console.print(f"Warning: {warning}.")
        self.stdout.write(written.get(), ending="")
