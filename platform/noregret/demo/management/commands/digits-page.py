"""`manage.py digits-page`: what the digits page needs, and its address."""

import argparse
from datetime import timedelta
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from noregret.access.keys import create_key, revoke_key
from noregret.demo import digits_world, onnxruntime_web
from noregret.demo.client import CallFailed, Client

ACTOR = "command:digits-page"
DAYS = 30


class Command(BaseCommand):
    help = (
        "Makes an endpoint of three models that read digits, fetches onnxruntime-web by npm, and prints the address "
        "of the page that reads in the browser, with a key that may be public. Needs a running platform."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the platform is (default: up's)")

    def handle(self, *args: Any, **options: Any) -> None:
        url = options["url"].rstrip("/")
        try:
            onnxruntime_web.fetch(settings.DATA_DIR)
        except onnxruntime_web.NotFetched as error:
            self.stderr.write(f"{error}\nThe page reads with the linear model alone.")
        try:
            key, text = create_key(
                name="digits-page-setup", scopes=["manage"], expires_in=timedelta(minutes=15), actor=ACTOR
            )
            client = Client(url, text)
            try:
                digits_world.make(client)
            finally:
                client.close()
                revoke_key(key, actor=ACTOR)
            _, public = create_key(
                name="digits-page",
                scopes=["edge"],
                endpoints=[digits_world.ENDPOINT],
                expires_in=timedelta(days=DAYS),
                actor=ACTOR,
            )
            digits_world.wait_served(url, public)
        except OperationalError as error:
            raise CommandError(f"the database can't be reached; is `manage.py up` running?\n{error}") from error
        except (CallFailed, digits_world.NotServed, httpx.TransportError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{url}/demo/digits#key={public}")
