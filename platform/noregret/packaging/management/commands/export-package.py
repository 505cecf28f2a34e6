"""`manage.py export-package ENDPOINT --out DIR`: the endpoint as a wheel."""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from noregret.experiments.models import Endpoint
from noregret.packaging.contents import CannotTravel
from noregret.packaging.export import DAYS, export
from noregret.packaging.wheel import build
from serving.artifacts import ArtifactMissing


class Command(BaseCommand):
    help = (
        "Writes an endpoint's package, a wheel that routes and predicts offline, and prints its path. "
        "What can't be in a package is refused, by arm and reason."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("endpoint")
        parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to write it to")
        parser.add_argument(
            "--until",
            type=_day,
            metavar="YYYY-MM-DD",
            help=f"the last day whose decisions can be uploaded, in UTC (default: in {DAYS} days)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name, folder = options["endpoint"], options["out"]
        try:
            wheel = export(name, options["until"])
        except Endpoint.DoesNotExist as error:
            raise CommandError(f"there is no endpoint {name}") from error
        except CannotTravel as error:
            raise CommandError("\n".join(error.reasons)) from error
        except ArtifactMissing as error:
            raise CommandError(f"a model file can't be had: {error}") from error
        except OperationalError as error:
            raise CommandError(f"the database can't be reached; is `manage.py up` running?\n{error}") from error
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / wheel.filename
            part = path.with_suffix(".part")
            part.write_bytes(build(wheel))
            part.replace(path)  # nobody installs half a wheel
        except OSError as error:
            raise CommandError(f"{folder} can't be written to: {error}") from error
        self.stdout.write(str(path))


def _day(text: str) -> datetime:
    """The end of a day that is not over."""
    try:
        ends = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: YYYY-MM-DD was expected, to 9999-12-30") from error
    if ends <= datetime.now(UTC):
        raise argparse.ArgumentTypeError(f"{text} is over: nothing that the package decides could be uploaded")
    return ends
