"""`manage.py put-snapshots`: snapshots, and the models that they name, to where functions read
them."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage
from django.core.management.base import BaseCommand, CommandError

from serving.artifacts import ArtifactMissing, SourceFailed, supplied


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

        folder, every = options["out"], options["every"]
        target, models = None, None
        if folder is not None:
            storage = FileSystemStorage(location=folder)
            target, models = StorageSnapshots(storage), StorageSource(storage)
        elif "artifacts" not in settings.STORAGES:
            raise CommandError("name a folder with --out, or the store of artefacts with NOREGRET_ARTIFACT_STORAGE")
        else:
            try:
                target = StorageSnapshots.of_settings()
            except ImproperlyConfigured as error:
                raise CommandError(str(error)) from error
        while True:
            try:
                written = put(client(), keys(), target, models, supplied())
                self.stdout.write(f"{written} documents written")
            except (redis.RedisError, SourceFailed, ArtifactMissing, OSError) as error:
                # Whatever is away comes back: with --every the next round goes on.
                said = _said(error)
                if every is None:
                    raise CommandError(said) from error
                self.stderr.write(said)
            if every is None:
                return
            time.sleep(max(every, 1.0))


def _said(error: Exception) -> str:
    match error:
        case redis.RedisError():
            return f"Redis can't be read: {error}"
        case ArtifactMissing():
            return f"a model file can't be had: {error}"
        case _:
            return f"snapshots can't be written: {error}"
