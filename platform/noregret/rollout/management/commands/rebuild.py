"""`manage.py rebuild`: what was learned, computed anew from the ledger, and compared with the live
state."""

import argparse
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from noregret.experiments.models import Baseline, Experiment
from noregret.learning import baselines
from noregret.learning.rebuild import RebuildOvertaken, rebuild
from noregret.learning.unlearned import unlearned
from noregret.learning.workers import PartFailed, Workers
from noregret.rollout.publish import publish_experiment_on_commit

TOLD_SECONDS = 2.0


class Command(BaseCommand):
    _told_at = 0.0
    help = (
        "Recomputes arm statistics and evidence from the ledger; --check only compares, and exits 1 on a difference. "
        "Both tell what of the ledger is in no sum, and why: what waits too long, and what was set aside."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--experiment", help="name or number of one experiment (default: every one that began)")
        parser.add_argument(
            "--workers",
            type=int,
            default=0,
            metavar="N",
            help="cut the ledger into parts, and have N at a time computed by Celery workers of the queue `rebuild`, or "
            "by threads of this command where none takes them (default: one after another, here)",
        )
        parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something differs")

    def handle(self, *args: Any, **options: Any) -> None:
        differ = False
        if options["workers"] < 0:
            raise CommandError("--workers is 0 or more")
        compute = Workers(options["workers"], self._tell) if options["workers"] else None
        for experiment in self._experiments(options["experiment"]):
            try:
                differences = rebuild(
                    experiment, write=not options["check"], learned=publish_experiment_on_commit, compute=compute
                )
            except (RebuildOvertaken, PartFailed) as error:
                raise CommandError(str(error)) from error
            for sentence in unlearned(experiment):
                self.stdout.write(f"{experiment.name}: {sentence}")
            differ |= bool(differences)
            for difference in differences:
                self.stdout.write(f"{experiment.name}: {difference}")
            if not differences:
                self.stdout.write(f"{experiment.name}: equal to the ledger")
            elif not options["check"]:
                self.stdout.write(f"{experiment.name}: rebuilt")
        if options["experiment"] is None:
            differ |= self._baselines(write=not options["check"])
        if differ and options["check"]:
            sys.exit(1)

    def _tell(self, done: int, of: int) -> None:
        """A line about every two seconds, and the last one."""
        if done == of or time.monotonic() - self._told_at > TOLD_SECONDS:
            self._told_at = time.monotonic()
            self.stderr.write(f"{done:,} of {of:,} parts")

    def _baselines(self, *, write: bool) -> bool:
        """The sums of single deployments; True where some differ."""
        differ = False
        for baseline in Baseline.objects.select_related("endpoint").order_by("pk"):
            differences = baselines.rebuild(baseline, write=write)
            differ |= bool(differences)
            for difference in differences:
                self.stdout.write(f"{baselines.name_of(baseline)}: {difference}")
            if differences and write:
                self.stdout.write(f"{baselines.name_of(baseline)}: rebuilt")
        return differ

    def _experiments(self, asked: str | None) -> list[Experiment]:
        begun = Experiment.objects.filter(started_at__isnull=False).select_related("endpoint").order_by("pk")
        if asked is None:
            return list(begun)
        found = [e for e in begun if e.name == asked or str(e.pk) == asked]
        if not found:
            raise CommandError(f"no experiment {asked} has begun")
        return found
