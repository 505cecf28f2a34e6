"""`manage.py demo`: the whole platform in a temporary directory, three models on real data, and a
winner at the end."""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.live import Live

from noregret.demo import digits, report, scenes
from noregret.embedded.running import RunningPlatform
from noregret.learning.shown.results import Results
from noregret.package_path import command

LINE_SECONDS = 2.0


class Command(BaseCommand):
    help = "Starts the platform, sends real traffic through a bandit, and ends when the winner is promoted."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=0, help="splits, trains and orders the traffic (default 0)")
        parser.add_argument("--json", action="store_true", help="print one JSON object last")
        parser.add_argument("--keep", action="store_true", help="keep the data directory, and say how to open it")
        parser.add_argument(
            "--scene", choices=tuple(scenes.SCENES), default="bandit", help="what to play (default bandit)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # With --json, stdout is for the object alone.
        console = Console(stderr=bool(options["json"]))
        folder = Path(tempfile.mkdtemp(prefix="noregret-demo-"))
        kept = False
        try:
            console.print("Starting PostgreSQL, Redis, web, worker and beat …")
            with RunningPlatform(folder) as platform:
                console.print(f"Ready at {platform.url}. Training models on scikit-learn's digits …")
                ending = self._play(platform, console, options["seed"], scenes.SCENES[options["scene"]]())
            kept = bool(options["keep"])
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)
        self._tell(console, ending, as_json=options["json"])
        if kept:
            console.print(f"Kept. Open it again with: manage.py up --data-dir {folder}")
        problem = self._problem(ending)
        if problem:
            raise CommandError(problem)

    def _play(self, platform: RunningPlatform, console: Console, seed: int, scene: scenes.Scene) -> scenes.Ending:
        data = digits.load(seed)
        for candidate in scene.candidates(data):
            console.print(f"  digits@{candidate.version}  {candidate.title}")
            console.print(f"            right on {candidate.accuracy:.1%} of held-out scans")
        key = self._key(platform)
        if console.is_terminal:
            with Live(console=console, refresh_per_second=4, transient=True) as live:
                return scenes.run(
                    scene,
                    url=platform.url,
                    key=key,
                    digits=data,
                    seed=seed,
                    show=lambda results, seconds: live.update(report.progress(results, seconds)),
                )
        shown = [float("-inf")]

        def line(results: Results, seconds: float) -> None:
            if seconds - shown[0] >= LINE_SECONDS:
                shown[0] = seconds
                console.print(report.progress_line(results, seconds), soft_wrap=True)

        return scenes.run(scene, url=platform.url, key=key, digits=data, seed=seed, show=line)

    def _key(self, platform: RunningPlatform) -> str:
        """A key made as a user makes one: by the command."""
        made = subprocess.run(
            command("apikey", "demo", "--scopes", "predict,feedback,manage", "--data-dir", str(platform.data_dir)),
            env=platform.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if made.returncode:
            raise CommandError(f"apikey failed: {made.stderr.strip()}")
        return made.stdout.strip()

    def _tell(self, console: Console, ending: scenes.Ending, *, as_json: bool) -> None:
        report.ending(console, ending)
        for side in ending.sides:
            ledger, name = side.ledger, side.experiment["name"]
            console.print(
                f"Ledger of {name}: {ledger.decisions:,} decisions and {ledger.rewards:,} rewards;\n"
                f"  acknowledged {ledger.acknowledged_decisions:,} and {ledger.acknowledged_rewards:,}."
            )
        console.print(f"{ending.seconds:.0f} s of traffic.")
        if as_json:
            self.stdout.write(json.dumps(self._document(ending)))

    def _document(self, ending: scenes.Ending) -> dict[str, Any]:
        side = ending.side
        keys = ("name", "model", "decisions", "rewards", "share", "mean", "interval", "probability_best")
        document = {
            "promoted": side.experiment["promoted_arm"],
            "outcome": side.experiment["outcome"],
            "arms": [{key: getattr(arm, key) for key in keys} for arm in side.results.arms],
            "decisions": side.ledger.decisions,
            "rewards": side.ledger.rewards,
            "seconds": round(ending.seconds, 1),
            "acknowledged_decisions": side.ledger.acknowledged_decisions,
            "acknowledged_rewards": side.ledger.acknowledged_rewards,
            "saved_against_even_split": side.results.comparison.saved_against_even_split,
        }
        if len(ending.sides) > 1:
            forgets, remembers = (one.tally for one in ending.sides)
            document["after_the_change"] = {
                "scans": forgets.inverted,
                "right": forgets.inverted_right,
                "right_without_forgetting": remembers.inverted_right,
            }
        return document

    def _problem(self, ending: scenes.Ending) -> str | None:
        if ending.traffic_problems:
            return f"traffic failed: {ending.traffic_problems[0]}"
        for side in ending.sides:
            if not side.ledger.right:
                return f"the ledger of {side.experiment['name']} differs from what was sent: {side.ledger}"
        return f"{ending.problem} in {ending.seconds:.0f} s" if ending.problem else None
