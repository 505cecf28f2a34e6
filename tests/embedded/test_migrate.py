"""A migration and the note that it is done are one: whoever is killed over it starts again."""

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

pytestmark = pytest.mark.django_db(transaction=True)


def is_there(table: str) -> bool:
    return table in connection.introspection.table_names()


def test_migrate__interrupted_before_it_is_noted__is_undone_and_can_be_done_again() -> None:
    call_command("migrate", "learning", "0008_ledger_sums", verbosity=0)
    assert not is_there("learning_shadowstatistics")

    def killed(recorder: MigrationRecorder, app: str, name: str) -> None:
        raise KeyboardInterrupt

    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(MigrationRecorder, "record_applied", killed)
            with pytest.raises(KeyboardInterrupt):
                call_command("migrate", "learning", verbosity=0)
        assert not is_there("learning_shadowstatistics")
    finally:
        call_command("migrate", verbosity=0)
    assert is_there("learning_shadowstatistics")
