"""Which pages of the admin each role opens, and what it reads there. The pages are those of the
admin's registry."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.test import Client
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment
from noregret.mlflow.models import ImportedVersion
from noregret.notify.models import Delivery, Webhook
from noregret.trail import audit

from serving.models import QuarantinedEvent

Start = Callable[..., Experiment]
MARK = "told-in-confidence"
SECRET = "s3cret-of-a-webhook"
ROLES: dict[str, tuple[str, ...]] = {
    "nobody": (),
    "viewer": ("view_experiment", "view_endpoint", "view_modelversion"),
    "operator": tuple(
        f"{action}_{model}"
        for model in ("experiment", "endpoint", "modelversion", "apikey")
        for action in ("view", "add", "change")
    ),
    "caretaker": ("view_delivery", "view_webhook", "view_quarantinedevent"),
    "auditor": ("view_auditentry", "view_experiment", "view_delivery"),
    "root": (),
}
AUDITS = {"auditor", "root"}


@pytest.fixture
def rows(two_arms: Start, permissions: None) -> None:
    """A row of everything that the admin shows."""
    two_arms()
    Group.objects.create(name="people")
    create_key(name="k", scopes=["predict"], actor="tests")
    QuarantinedEvent.objects.create(stream="s", entry_id="1-0", problem="no event", body=b"x")
    ImportedVersion.objects.create(name="m", version="1", mlflow_name="m", mlflow_version="1", created_by="t")
    hook = Webhook.objects.create(name="h", url="http://127.0.0.1:9/", secret=SECRET, events=["*"], created_by="t")
    with transaction.atomic():
        audit.record(actor="tests", action="experiment.paused", endpoint="pages", experiment="e", reason=MARK)
    Delivery.objects.filter(webhook=hook).delete()
    Delivery.objects.create(webhook=hook, event="e.x", body={"reason": MARK}, due_at=timezone.now())


def of_role(role: str) -> Client:
    if role == "root":
        user = User.objects.create_superuser("root")
    else:
        user = User.objects.create_user(role, is_staff=True)
        found = Permission.objects.filter(codename__in=ROLES[role])
        assert found.count() == len(ROLES[role])
        user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("role", ROLES)
def test_pages__of_every_model__open_for_who_may_and_tell_audit_to_auditors_alone(rows: None, role: str) -> None:
    client = of_role(role)
    wrong: list[tuple[str, int]] = []
    told: set[str] = set()
    own = {model for model, site in admin.site._registry.items() if type(site).__module__.startswith("noregret.")}
    assert len(own) >= 10
    for model in admin.site._registry:
        meta = model._meta
        held = {action for action in ("view", "add", "change") if f"{action}_{meta.model_name}" in ROLES[role]}
        row: Any = model._default_manager.first()
        assert row is not None, model
        base = f"/admin/{meta.app_label}/{meta.model_name}"
        sees = role == "root" or bool(held & {"view", "change"})
        makes = meta.model_name in {"experiment", "endpoint", "modelversion", "apikey", "user", "group"}
        for path, opens in (
            (f"{base}/", sees),
            (f"{base}/{row.pk}/change/", sees),
            (f"{base}/{row.pk}/history/", sees),
            (f"{base}/add/", makes and (role == "root" or "add" in held)),
            (f"{base}/{row.pk}/delete/", role == "root" and meta.app_label == "auth"),
        ):
            answer = client.get(path, follow=True)
            if answer.status_code != (200 if opens else 403):
                wrong.append((path, answer.status_code))
            content = answer.content.decode()
            assert SECRET not in content
            if MARK in content:
                told.add(meta.model_name or "")
    assert wrong == []
    if MARK in client.get("/admin/").content.decode():
        told.add("overview")
    everywhere = {"auditentry", "experiment", "delivery", "overview"}
    assert told == (everywhere if role in AUDITS else set())


def test_lists__narrowed_by_what_is_not_shown__are_refused(rows: None) -> None:
    """Or whoever sees webhooks reads their secrets, a letter a request."""
    client = of_role("caretaker")
    for query in ("secret__startswith=s3", "secret=x", "name__startswith=h"):
        expected = 200 if query.startswith("name") else 400
        assert client.get(f"/admin/notify/webhook/?{query}").status_code == expected, query
    for query, expected in (("body__contains=x", 400), ("webhook__secret__startswith=s", 400), ("state=waiting", 200)):
        assert client.get(f"/admin/notify/delivery/?{query}").status_code == expected, query
    operator = of_role("operator")
    assert operator.get("/admin/access/apikey/?digest__startswith=a").status_code == 400
