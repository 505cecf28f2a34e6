"""`manage.py migrate`: Django's own, but a migration and the note that it is done are committed
together, or neither is.

Django notes a migration that adds keys or indexes in a transaction after it: who is killed between
the two finds at the next start that what the migration makes is there already, and never starts
again.
"""

from django.core.management.commands import migrate
from django.db import transaction
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState


class WholeMigrations(MigrationExecutor):
    """Applies each migration in one transaction with its note; one that is not atomic says itself
    how it goes on."""

    def apply_migration(
        self, state: ProjectState, migration: Migration, fake: bool = False, fake_initial: bool = False
    ) -> ProjectState:
        if not migration.atomic:
            return super().apply_migration(state, migration, fake, fake_initial)
        with transaction.atomic(using=self.connection.alias):
            return super().apply_migration(state, migration, fake, fake_initial)

    def unapply_migration(self, state: ProjectState, migration: Migration, fake: bool = False) -> ProjectState:
        if not migration.atomic:
            return super().unapply_migration(state, migration, fake)
        with transaction.atomic(using=self.connection.alias):
            return super().unapply_migration(state, migration, fake)


class Command(migrate.Command):
    def handle(self, *args: object, **options: object) -> None:
        # The command takes the class from its module, and has no other place to be given one.
        migrate.MigrationExecutor = WholeMigrations  # type: ignore[attr-defined]  # imported there, not exported
        super().handle(*args, **options)
