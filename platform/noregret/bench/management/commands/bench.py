"""`manage.py bench`: the service as shipped under load, in interleaved rounds, as ratios to a view that does nothing."""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from noregret.bench.load import LoadFailed, Measured
from noregret.bench.scenario import LOADS, prepare, web_memory_mb
from noregret.demo import digits
from noregret.demo.client import Client
from noregret.embedded.running import RunningPlatform
from noregret.package_path import command

ROUNDS = 5
WARM_UP_SECONDS = 1.0


class Command(BaseCommand):
    help = "Loads the service as shipped and prints throughput, latency and the ratio to a view that does nothing."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--seconds", type=float, default=10.0, help="time for each load, over all rounds (default 10)"
        )
        parser.add_argument("--connections", type=int, default=8, help="connections kept busy (default 8)")
        parser.add_argument("--arms", type=int, default=3, help="arms of the bandit (default 3)")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        folder = Path(tempfile.mkdtemp(prefix="noregret-bench-"))
        console = Console(stderr=bool(options["json"]))
        try:
            console.print(f"Starting the platform in {folder} …", soft_wrap=True)
            with RunningPlatform(folder) as platform:
                measured, memory = self._measure(platform, options)
        except LoadFailed as failure:
            raise CommandError(f"the load failed: {failure}") from failure
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        noop = measured["noop"].per_second
        if options["json"]:
            answer: dict[str, float] = {f"{name}_rps": round(found.per_second, 1) for name, found in measured.items()}
            for name, found in measured.items():
                answer[f"{name}_p50_ms"] = round(found.percentile_ms(0.5), 2)
                answer[f"{name}_p99_ms"] = round(found.percentile_ms(0.99), 2)
                answer[f"{name}_to_noop"] = round(found.per_second / noop, 3)
            self.stdout.write(json.dumps(answer | {"web_rss_mb": round(memory, 1)}))
            return
        table = Table(title=f"{options['connections']} connections, {options['arms']} arms, one web process")
        table.add_column("load")
        for heading in ("requests/s", "p50 in ms", "p99 in ms", "to noop"):
            table.add_column(heading, justify="right")
        for name, found in measured.items():
            table.add_row(
                name,
                f"{found.per_second:,.0f}",
                f"{found.percentile_ms(0.5):.2f}",
                f"{found.percentile_ms(0.99):.2f}",
                f"{found.per_second / noop:.2f}",
            )
        console.print(table)
        console.print(f"Memory of the web process: {memory:.0f} MB")

    def _measure(self, platform: RunningPlatform, options: dict[str, Any]) -> tuple[dict[str, Measured], float]:
        made = subprocess.run(
            command("apikey", "bench", "--scopes", "predict,feedback,manage", "--data-dir", str(platform.data_dir)),
            env=platform.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        key = made.stdout.strip()
        client = Client(platform.url, key)
        try:
            scenario = prepare(platform, client, key, digits.load(0), options["arms"])
        finally:
            client.close()
        connections = options["connections"]
        for name in LOADS:
            scenario.run(name, connections, WARM_UP_SECONDS)
        measured = {name: Measured() for name in LOADS}
        # Interleaved: what else the machine does falls on all loads alike.
        for _ in range(ROUNDS):
            for name in LOADS:
                measured[name] = measured[name] + scenario.run(name, connections, options["seconds"] / ROUNDS)
        return measured, web_memory_mb(platform)
