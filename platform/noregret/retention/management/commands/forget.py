"""`manage.py forget UNIT`: takes a unit out of everything that names it."""

import argparse
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from noregret.retention.forget import forget


class Command(BaseCommand):
    help = "Takes a unit out of the ledger, streams, sticky assignments and quarantine. Every sum stays as it is."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("unit", help="the unit, as it was sent")
        parser.add_argument("--dry-run", action="store_true", help="change nothing; tell how much there is")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = forget(options["unit"], actor="command:forget", dry_run=options["dry_run"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        except (OperationalError, redis.RedisError) as error:
            raise CommandError(f"the servers can't be reached; is `manage.py up` running?\n{error}") from error
        for what, count in found.items():
            self.stdout.write(f"{count:,} {what}")
        self.stdout.write("nothing was changed" if options["dry_run"] else "forgotten")
