"""`manage.py apikey`: makes an API key and prints it, alone, on stdout."""

import argparse
import re
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from noregret.access.keys import LONGEST, SCOPES, KeyInvalid, create_key

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """`90d`, `12h`, `30m`, `45s`, `2w`."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: a number and one of s, m, h, d, w was expected, as 90d")
    try:
        return timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r}: at most {LONGEST.days:,} days were expected") from None


class Command(BaseCommand):
    help = "Makes an API key and prints it, alone, on stdout. It is shown this once."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", help="whose key it is")
        parser.add_argument("--scopes", required=True, help=f"of {','.join(SCOPES)}, separated by commas")
        parser.add_argument(
            "--endpoints", help="the endpoints that it is for, separated by commas (default: every one)"
        )
        parser.add_argument("--expires", type=duration, help="how long it is good for, as 90d (default: for ever)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _, text = create_key(
                name=options["name"],
                scopes=_listed(options["scopes"]),
                endpoints=None if options["endpoints"] is None else _listed(options["endpoints"]),
                expires_in=options["expires"],
                actor="command:apikey",
            )
        except KeyInvalid as error:
            raise CommandError(f"{error.field}: {error.message}") from error
        except OperationalError as error:
            raise CommandError(f"the database can't be reached; is `manage.py up` running?\n{error}") from error
        self.stdout.write(text)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
