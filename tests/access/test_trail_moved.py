"""The audit trail changed its app: entries, and who may see them, did not."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection, transaction
from noregret.trail import audit
from noregret.trail.models import AuditEntry

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def before_the_move() -> Any:
    """The database of a version whose trail belonged to access."""
    call_command("migrate", "access", "0001", verbosity=0)
    call_command("migrate", "trail", "zero", verbosity=0)
    ContentType.objects.filter(app_label__in=["access", "trail"], model="auditentry").delete()
    yield
    call_command("migrate", verbosity=0)
    ContentType.objects.filter(app_label="access", model="auditentry").delete()


def viewer(app_label: str) -> Permission:
    return Permission.objects.get(content_type__app_label=app_label, codename="view_auditentry")


def fresh(user: User) -> User:
    return User.objects.get(pk=user.pk)  # permissions are cached by instance


def test_move__upgraded_and_back__entries_and_permissions_go_along(before_the_move: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO access_auditentry (at, actor, action, endpoint, experiment, model, reason, details)"
            " VALUES (now(), 'alice', 'key.created', '', '', '', '', '{}')"
        )
    kind = ContentType.objects.create(app_label="access", model="auditentry")
    held = Permission.objects.create(content_type=kind, codename="view_auditentry", name="Can view audit entry")
    auditors = Group.objects.create(name="auditors")
    auditors.permissions.add(held)
    alice, bob, charlie = (User.objects.create_user(name, is_staff=True) for name in ("alice", "bob", "charlie"))
    alice.groups.add(auditors)
    bob.user_permissions.add(held)

    call_command("migrate", verbosity=0)
    with transaction.atomic():
        audit.record(actor="bob", action="key.revoked")
    assert list(AuditEntry.objects.order_by("pk").values_list("actor", "action")) == [
        ("alice", "key.created"),
        ("bob", "key.revoked"),
    ]
    for app_label in ("trail", "access"):  # a version that still runs beside this one asks for its own
        seen = [fresh(user).has_perm(f"{app_label}.view_auditentry") for user in (alice, bob, charlie)]
        assert seen == [True, True, False]

    charlie.user_permissions.add(viewer("trail"))
    call_command("migrate", "access", "0001", verbosity=0)
    call_command("migrate", "trail", "zero", verbosity=0)
    seen = [fresh(user).has_perm("access.view_auditentry") for user in (alice, bob, charlie)]
    assert seen == [True, True, True]
    assert AuditEntry.objects.count() == 2
