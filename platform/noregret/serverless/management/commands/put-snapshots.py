"""`manage.py put-snapshots`: snapshots, and the models that they name, to where functions read
them."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Put the snapshots of Redis into the store of artefacts, or with their models into a folder."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--out", type=Path, help="a folder to pack into a function; default: the store of artefacts"
        )
        parser.add_argument("--every", type=float, help="again after so many seconds, until it is stopped")

    def handle(self, *args: Any, **options: Any) -> None:
        from noregret.redis_client import client, keys
        from noregret.registry.artifact_storage import StorageSource
        from noregret.serverless.putting import put
        from noregret.serverless.snapshot_storage import StorageSnapshots
        from serving.artifacts import supplied

        folder, every = options["out"], options["every"]
        target, models = None, None
        if folder is not None:
            storage = FileSystemStorage(location=folder)
            target, models = StorageSnapshots(storage), StorageSource(storage)
        elif "artifacts" not in settings.STORAGES:
            raise CommandError("name a folder with --out, or the store of artefacts with NOREGRET_ARTIFACT_STORAGE")
        else:
            target = StorageSnapshots.of_settings()
        while True:
            try:
                written = put(client(), keys(), target, models, supplied())
                self.stdout.write(f"{written} documents written")
            except redis.RedisError as error:
                if every is None:
                    raise CommandError(f"Redis can't be read: {error}") from error
                self.stderr.write(f"Redis can't be read: {error}")
            if every is None:
                return
            time.sleep(max(every, 1.0))
