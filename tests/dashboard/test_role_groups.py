"""The roles that a migration makes: a viewer changes nothing on any page, an operator runs rollouts
and manages neither keys nor people, an administrator makes nobody mightier than that."""

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.access.models import ApiKey
from noregret.dashboard.decision import LABELS
from noregret.dashboard.guided_experiments import GuidedExperiments
from noregret.dashboard.pages import ServiceAddAdmin
from noregret.experiments.models import Endpoint, Experiment
from noregret.trail.models import AuditEntry

from serving.models import QuarantinedEvent

roles = import_module("noregret.access.migrations.0003_roles")


@pytest.fixture
def made(two_arms: Any) -> Experiment:
    """The roles as in a new database, before Django has made any permission; and rows to act on."""
    roles.make_roles(apps, None)
    create_key(name="k", scopes=["predict"], actor="t")
    QuarantinedEvent.objects.create(stream="s", entry_id="1-0", problem="no event", body=b"x")
    experiment: Experiment = two_arms()
    return experiment


def member(role: str) -> Client:
    user = User.objects.create_user(role, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def acts() -> list[tuple[str, str]]:
    """Every address of the admin that changes something, with the model it is of."""
    found = []
    for model, pages in admin.site._registry.items():
        meta = model._meta
        row = model._default_manager.first()
        if row is None:
            continue
        base = f"/admin/{meta.app_label}/{meta.model_name}"
        name = str(meta.model_name)
        makes = isinstance(pages, ServiceAddAdmin | GuidedExperiments) or meta.app_label == "auth"
        found += [(name, f"{base}/{row.pk}/delete/"), *([(name, f"{base}/add/")] if makes else [])]
        found += [(name, f"{base}/{row.pk}/do/{action.name}") for action in getattr(pages, "row_actions", ())]
    experiment, endpoint = Experiment.objects.get(), Endpoint.objects.get()
    found += [("experiment", f"/admin/experiments/experiment/{experiment.pk}/{way}") for way in ("edit", "copy")]
    found += [("experiment", f"/admin/experiments/experiment/{experiment.pk}/do/{action}") for action in LABELS]
    found += [("endpoint", f"/admin/experiments/endpoint/{endpoint.pk}/try")]
    found += [("user", f"/admin/auth/user/{User.objects.get().pk}/password/")]
    return found


def refused(client: Client) -> set[str]:
    """The models on whose pages every act is refused; asserts that none is half in reach."""
    answers: dict[str, set[bool]] = {}
    for model, address in acts():
        status = client.get(address).status_code
        assert status in (200, 302, 403), (address, status)
        if "/delete/" not in address:
            answers.setdefault(model, set()).add(status == 403)
    assert [model for model, each in answers.items() if len(each) > 1] == []
    return {model for model, each in answers.items() if each == {True}}


def test_viewer__acts_on_no_page(made: Experiment) -> None:
    client = member("viewer")
    before = AuditEntry.objects.count()
    for _, address in acts():
        for method in (client.get, client.post):
            assert method(address).status_code == 403, address
    made.refresh_from_db()
    assert (made.status, ApiKey.objects.get().revoked_at, QuarantinedEvent.objects.count()) == ("running", None, 1)
    assert AuditEntry.objects.count() == before
    for page in ("", f"experiments/experiment/{made.pk}/change/", f"experiments/endpoint/{made.endpoint_id}/change/"):
        shown = client.get(f"/admin/{page}")
        assert shown.status_code == 200
        assert b"/do/" not in shown.content
        assert b"/try" not in shown.content
        assert b"/add/" not in shown.content
    assert b"Champions" in client.get(f"/admin/experiments/endpoint/{made.endpoint_id}/change/").content
    for page in ("access/apikey", "auth/user", "notify/webhook", "serving/quarantinedevent"):
        assert client.get(f"/admin/{page}/").status_code == 403, page


def test_operator__runs_rollouts__and_manages_neither_keys_nor_people(made: Experiment) -> None:
    client = member("operator")
    out_of_reach = refused(client)
    assert {"apikey", "user"} <= out_of_reach
    assert not {"experiment", "endpoint", "modelversion", "quarantinedevent"} & out_of_reach
    key = ApiKey.objects.get()
    for address in ("add/", f"{key.pk}/change/", f"{key.pk}/do/revoke"):
        assert client.post(f"/admin/access/apikey/{address}", {"name": "x", "scopes": "manage"}).status_code == 403
    assert client.post("/admin/auth/user/add/", {"username": "x"}).status_code == 403
    assert client.post(f"/admin/experiments/experiment/{made.pk}/do/pause", {"reason": "to look"}).status_code == 302


def test_administrator__manages_people__and_makes_none_mightier(made: Experiment) -> None:
    client = member("administrator")
    assert {"apikey", "user"}.isdisjoint(refused(client))
    root = User.objects.create_superuser("root")
    for page in ("change", "password", "delete"):
        assert client.post(f"/admin/auth/user/{root.pk}/{page}/", {"is_active": ""}).status_code == 403, page
    root.refresh_from_db()
    assert root.is_active
    bob = User.objects.create_user("bob")
    form = {
        "username": "bob", "is_active": "on", "is_staff": "on", "is_superuser": "on",
        "groups": [Group.objects.get(name="viewer").pk], "date_joined_0": "2026-01-01", "date_joined_1": "00:00",
        "user_permissions": [Permission.objects.first().pk],
    }  # fmt: skip
    assert client.post(f"/admin/auth/user/{bob.pk}/change/", form).status_code == 302
    bob.refresh_from_db()
    assert (bob.is_staff, bob.is_superuser, bob.user_permissions.count()) == (True, False, 0)
    assert [group.name for group in bob.groups.all()] == ["viewer"]


def test_failed_logins__are_for_who_manages_people(made: Experiment) -> None:
    AuditEntry.objects.create(actor="unknown", action="login.failed", details={"user": "pa55word"}, at=timezone.now())
    row = AuditEntry.objects.get(action="login.failed")
    for role, sees in (("viewer", False), ("operator", False), ("administrator", True)):
        client = member(role)
        for page in ("", "trail/auditentry/", "trail/auditentry/audit.csv"):
            assert (b"login.failed" in client.get(f"/admin/{page}").content) is sees, (role, page)
        status = client.get(f"/admin/trail/auditentry/{row.pk}/change/").status_code
        assert (status == 200) is sees


def test_migration__keeps_a_group_of_somebodys_own__and_goes_back(platform: None) -> None:
    Group.objects.all().delete()  # of a database that was just made
    own = Group.objects.create(name="viewer")
    roles.make_roles(apps, None)
    roles.make_roles(apps, None)
    assert own.permissions.count() == 0
    assert Group.objects.get(name="operator").permissions.filter(codename="change_endpoint").exists()
    User.objects.create_user("ann").groups.add(Group.objects.get(name="operator"))
    roles.remove_roles(apps, None)
    assert sorted(Group.objects.values_list("name", flat=True)) == ["operator", "viewer"]
