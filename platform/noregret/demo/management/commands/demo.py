"""`manage.py demo`: the whole platform in a temporary directory, three models on real data, and a winner at the end."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.live import Live

from noregret.demo import digits, report, scenes
from noregret.embedded.running import RunningPlatform

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
            console.print(f"Starting PostgreSQL, Redis, web, worker and beat in {folder} …")
            with RunningPlatform(folder) as platform:
                console.print(f"Ready at {platform.url}. Training three models on scikit-learn's digits …")
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
        for candidate in data.candidates:
            console.print(
                f"  digits@{candidate.version}  {candidate.title}, right on {candidate.accuracy:.1%} of held-out scans"
            )
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

        def line(results: dict[str, Any], seconds: float) -> None:
            if seconds - shown[0] >= LINE_SECONDS:
                shown[0] = seconds
                console.print(report.progress_line(results, seconds), soft_wrap=True)

        return scenes.run(scene, url=platform.url, key=key, digits=data, seed=seed, show=line)

    def _key(self, platform: RunningPlatform) -> str:
        """A key made as a user makes one: by the command."""
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "apikey", "demo"]
        command += ["--scopes", "predict,feedback,manage", "--data-dir", str(platform.data_dir)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if made.returncode:
            raise CommandError(f"apikey failed: {made.stderr.strip()}")
        return made.stdout.strip()

    def _tell(self, console: Console, ending: scenes.Ending, *, as_json: bool) -> None:
        report.ending(console, ending.results, ending.promoted)
        ledger = ending.ledger
        console.print(
            f"Ledger: {ledger.decisions:,} decisions and {ledger.rewards:,} rewards; acknowledged "
            f"{ledger.acknowledged_decisions:,} and {ledger.acknowledged_rewards:,}. {ending.seconds:.0f} s of traffic."
        )
        if as_json:
            arms = [
                {
                    key: arm[key]
                    for key in (
                        "name",
                        "model",
                        "decisions",
                        "rewards",
                        "share",
                        "mean",
                        "interval",
                        "probability_best",
                    )
                }
                for arm in ending.results["arms"]
            ]
            answer = {
                "promoted": ending.promoted,
                "outcome": ending.outcome,
                "arms": arms,
                "decisions": ledger.decisions,
                "rewards": ledger.rewards,
                "seconds": round(ending.seconds, 1),
                "acknowledged_decisions": ledger.acknowledged_decisions,
                "acknowledged_rewards": ledger.acknowledged_rewards,
                "saved_against_even_split": ending.results["comparison"]["saved_against_even_split"],
            }
            self.stdout.write(json.dumps(answer))

    def _problem(self, ending: scenes.Ending) -> str | None:
        if ending.tally.problems:
            return f"traffic failed: {ending.tally.problems[0]}"
        if not ending.ledger.right:
            return f"the ledger differs from what was sent: {ending.ledger}"
        return f"{ending.problem} in {ending.seconds:.0f} s" if ending.problem else None
