"""`manage.py bench`: the service as shipped under load, in interleaved rounds, held to its bars."""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from noregret.bench import document, peers, plot, report
from noregret.bench.load import LoadFailed
from noregret.bench.measuring import Run, Settings
from noregret.demo.client import CallFailed
from noregret.embedded.errors import StartFailed

PAGE_WIDTH = 120
"""Characters of a line where what is printed goes into a file."""


class Command(BaseCommand):
    help = "Loads the service as shipped, and prints every figure with its bar and its aim."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        defaults = Settings()
        parser.add_argument("--seconds", type=float, help="time for each load, over all rounds (default 10)")
        parser.add_argument("--connections", type=int, default=8, help="connections kept busy (default 8)")
        parser.add_argument("--arms", type=int, default=3, help="arms of the bandit (default 3)")
        parser.add_argument(
            "--history",
            type=int,
            metavar="ROWS",
            help=f"rows of the ledger behind predict (default {defaults.history_rows:,}; 10,000,000 take minutes)",
        )
        parser.add_argument("--quick", action="store_true", help="all of it within a minute, and rough")
        parser.add_argument(
            "--peers",
            nargs="?",
            const=",".join(peer.name for peer in peers.PEERS),
            default="",
            help="install and load other servers too: all, or names as fastapi,mlserver",
        )
        parser.add_argument("--profile", action="store_true", help="tell where the time of a predict goes")
        parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw latency against load")
        parser.add_argument("--write", type=Path, metavar="FILE.md", help="write the page of docs/performance.md")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        asked = [name.strip() for name in options["peers"].split(",") if name.strip()]
        unknown = [name for name in asked if name not in peers.BY_NAME]
        if unknown:
            raise CommandError(f"no peer {', '.join(unknown)}; there are {', '.join(peers.BY_NAME)}")
        console = Console(stderr=bool(options["json"]))
        if not console.is_terminal:
            console = Console(stderr=bool(options["json"]), width=PAGE_WIDTH)
        began = time.monotonic()

        def tell(line: str) -> None:
            seconds = time.monotonic() - began
            console.print(f"{seconds:4.0f} s  {line} …", style="dim", highlight=False, soft_wrap=True)

        # Who ends it with SIGTERM leaves no server behind: what is started is ended on the way out.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        run = Run(_settings(options, asked), settings.DATA_DIR / "cache" / "bench-peers", tell)
        try:
            measured = run()
        except (LoadFailed, CallFailed, StartFailed) as failure:
            raise CommandError(f"the benchmark ended early: {failure}") from failure
        except subprocess.CalledProcessError as failure:
            raise CommandError(f"a step of the benchmark failed (exit {failure.returncode})") from failure
        if options["plot"]:
            plot.draw(measured, options["plot"])
        if options["write"]:
            beside = options["plot"] and options["plot"].resolve().parent == options["write"].resolve().parent
            options["write"].write_text(document.render(measured, options["plot"].name if beside else None))
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(measured)))
        else:
            report.show(measured, console)


def _settings(options: dict[str, Any], asked: list[str]) -> Settings:
    given: dict[str, Any] = {
        "connections": options["connections"],
        "arms": options["arms"],
        "peers": asked,
        "plot": options["plot"] is not None,
        "profile": options["profile"],
    }
    if options["seconds"] is not None:
        given["seconds"] = options["seconds"]
    if options["history"] is not None:
        given["history_rows"] = options["history"]
    return Settings.quick(**given) if options["quick"] else Settings(**given)
