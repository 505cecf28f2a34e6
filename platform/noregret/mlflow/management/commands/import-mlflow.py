"""`manage.py import-mlflow models:/fraud@challenger`: registers a version of MLflow's registry."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from noregret.mlflow.errors import MlflowError
from noregret.mlflow.importing import import_version
from noregret.registry.errors import DefinitionInvalid, RegistryError


class Command(BaseCommand):
    help = "Registers a version of MLflow's registry, and prints what it is called here."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("uri", help="models:/NAME@ALIAS or models:/NAME/VERSION")
        parser.add_argument("--name", help="what the model is called here (default: as in MLflow)")
        parser.add_argument("--version-name", help="what the version is called here (default: its number in MLflow)")
        parser.add_argument("--url", help="where it is served, for a model that is not served here")
        parser.add_argument(
            "--protocol", choices=("mlflow", "open-inference"), default="mlflow", help="spoken at that address"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            row, source, is_new = import_version(
                options["uri"],
                name=options["name"],
                version=options["version_name"],
                url=options["url"],
                protocol=options["protocol"],
                actor="command:import-mlflow",
            )
        except DefinitionInvalid as error:
            raise CommandError(f"{error.field}: {error.message}") from error
        except (MlflowError, RegistryError) as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            raise CommandError(f"the database can't be reached; is `manage.py up` running?\n{error}") from error
        word = "registered" if is_new else "was registered already"
        self.stdout.write(f"{row.model} {word}: {source.mlflow_name} {source.mlflow_version}, run {source.run_id}")
