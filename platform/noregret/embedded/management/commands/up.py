"""`manage.py up`, as Django's list of commands knows it. The command line runs it without Django:
see embedded/up.py."""

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand

from noregret.embedded import up
from noregret.embedded.stop_request import StopRequest


class Command(BaseCommand):
    help = "Starts PostgreSQL, Redis, web, worker and beat, and stops them all on SIGINT or SIGTERM."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        up.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        stop = StopRequest()
        stop.listen()
        sys.exit(
            up.run(up.Arguments(options["host"], options["port"], options["web_workers"], options["grpc_port"]), stop)
        )
