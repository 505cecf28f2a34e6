"""The admin in a real browser, and its rules without one."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from noregret.access.models import ApiKey, AuditEntry
from noregret.experiments.models import Endpoint, Experiment
from noregret.registry.models import ModelVersion

from tests.conftest import endpoint_of, static_model

Start = Callable[..., Experiment]
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PASSWORD = "correct horse battery staple"


@pytest.fixture
def admin(platform: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    return client


def page(experiment: Experiment) -> str:
    return f"/admin/experiments/experiment/{experiment.pk}/change/"


def do(experiment: Experiment, action: str) -> str:
    return f"/admin/experiments/experiment/{experiment.pk}/do/{action}"


def test_pages__all__answer(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    paths = ["/admin/", page(experiment), f"/admin/experiments/endpoint/{experiment.endpoint_id}/change/"]
    for model in ("experiments/experiment", "experiments/endpoint", "registry/modelversion", "access/apikey"):
        paths += [f"/admin/{model}/", f"/admin/{model}/add/"]
    paths += ["/admin/access/auditentry/", "/admin/serving/quarantinedevent/", "/admin/auth/user/"]
    paths += [f"/admin/registry/modelversion/{ModelVersion.objects.latest('pk').pk}/change/"]
    for path in paths:
        assert admin.get(path).status_code == 200, path


def test_action__get__asks_and_changes_nothing__post__does(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    for action in ("pause", "stop", "rollback"):
        assert admin.get(do(experiment, action)).status_code == 200
    assert b"page@b becomes the champion of pages" in admin.get(do(experiment, "promote") + "?arm=b").content
    experiment.refresh_from_db()
    assert experiment.status == "running"
    assert admin.post(do(experiment, "pause"), {"reason": "lunch"}).status_code == 302
    experiment.refresh_from_db()
    assert experiment.status == "paused"
    entry = AuditEntry.objects.latest("pk")
    assert (entry.actor, entry.action, entry.reason) == ("root", "experiment.paused", "lunch")


def test_action__not_allowed_in_this_state__is_told_and_not_done(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    answer = admin.post(do(experiment, "start"), {}, follow=True)
    assert b"Not done: e is running" in answer.content
    assert admin.get(do(experiment, "explode")).status_code == 404
    assert admin.get(do(experiment, "promote") + "?arm=none").status_code == 404


def test_permissions__staff_who_may_only_look__cannot_act(two_arms: Start) -> None:
    experiment = two_arms()
    looker = User.objects.create_user("looker", password=PASSWORD, is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_experiment"))
    client = Client()
    assert client.get(page(experiment)).status_code == 302
    client.force_login(looker)
    shown = client.get(page(experiment))
    assert shown.status_code == 200
    assert b"/do/" not in shown.content
    assert client.post(do(experiment, "stop"), {}).status_code == 403
    assert client.get("/admin/access/apikey/").status_code == 403
    assert client.get("/admin/experiments/experiment/add/").status_code == 403
    experiment.refresh_from_db()
    assert experiment.status == "running"


def test_forms__wrong__say_so_and_right__call_the_services(admin: Client) -> None:
    url = "/admin/registry/modelversion/add/"
    wrong = admin.post(url, {"name": "Bad Name", "version": "1", "framework": "static"})
    assert wrong.status_code == 400
    assert b"lower-case" in wrong.content
    for version in "ab":
        admin.post(url, {"name": "page", "version": version, "framework": "static", "payload": '{"x": 1}'})
    assert ModelVersion.objects.count() == 2
    admin.post(
        "/admin/experiments/endpoint/add/",
        {"name": "pages", "champion": ModelVersion.objects.get(version="a").pk, "deadline_ms": 300},
    )
    assert Endpoint.objects.get().champion.version == "a"
    fields = {
        "name": "e",
        "endpoint": Endpoint.objects.get().pk,
        "strategy": "bandit",
        "arms": [ModelVersion.objects.get(version="b").pk],
        "policy": "ucb1",
        "floor": "0.02",
        "reward_kind": "binary",
        "direction": "maximize",
        "window_seconds": "60",
        "auto": "on",
    }
    assert admin.post("/admin/experiments/experiment/add/", fields | {"floor": "0.9"}).status_code == 400
    assert admin.post("/admin/experiments/experiment/add/", fields).status_code == 302
    experiment = Experiment.objects.get()
    assert [arm.name for arm in experiment.arms.order_by("position")] == ["control", "vb"]
    assert experiment.policy is not None
    assert (experiment.policy["name"], experiment.policy["floor"], experiment.status) == ("ucb1", 0.02, "draft")


def test_key__made_and_revoked__is_shown_once(admin: Client) -> None:
    shown = admin.post("/admin/access/apikey/add/", {"name": "service", "scopes": ["predict"]}, follow=True)
    assert b"shown this once: nr_" in shown.content
    key = ApiKey.objects.get()
    assert b"shown this once" not in admin.get(f"/admin/access/apikey/{key.pk}/change/").content
    admin.post(f"/admin/access/apikey/{key.pk}/do/revoke", {"reason": "leaked"})
    key.refresh_from_db()
    assert key.revoked_at is not None


@pytest.fixture
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("NO BROWSER: chromium was not found, the dashboard is not tested in one (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    # Playwright runs an event loop in this thread, where Django would otherwise refuse the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=arguments)
        yield started
        started.close()
        # Within Playwright's event loop Django sees another context than without it, and made a connection for that.
        connection.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


def test_browser__whole_visit__without_errors_or_foreign_requests(
    browser: Any, live_server: Any, platform: None
) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    hosts: set[str] = set()
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2]) if request.url.startswith("http") else None)
    tab.goto(f"{live_server.url}/admin/")
    tab.fill("input[name=username]", "root")
    tab.fill("input[name=password]", PASSWORD)
    tab.click("button[type=submit]")
    assert tab.get_by_text("Nothing is registered yet").is_visible()

    static_model("page", "a", "A")
    static_model("page", "b", "B")
    endpoint_of("pages", "page@a")
    tab.goto(f"{live_server.url}/admin/experiments/experiment/add/")
    tab.fill("input[name=name]", "e")
    tab.select_option("select[name=endpoint]", label="pages")
    tab.select_option("select[name=arms]", label=["page@a", "page@b"])
    tab.click("text=Make it")
    tab.click("text=Start")
    tab.fill("textarea[name=reason]", "a try")
    tab.click("button:has-text('Start')")
    assert tab.locator(".nr-badge").inner_text() == "Running"
    assert tab.locator("canvas").count() == 3
    tab.click("text=Promote vb")
    assert "page@b becomes the champion of pages" in tab.inner_text(".nr-question")
    tab.click("button:has-text('Promote vb')")
    assert tab.locator(".nr-badge").inner_text() == "Completed: promoted"
    assert Endpoint.objects.get().champion.model == "page@b"

    tab.set_viewport_size({"width": 390, "height": 844})
    model = ModelVersion.objects.latest("pk").pk
    for path in ("/admin/", page(Experiment.objects.get()), f"/admin/registry/modelversion/{model}/change/"):
        tab.goto(f"{live_server.url}{path}")
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0, path
    tab.goto(f"{live_server.url}/api/docs")
    tab.wait_for_selector("text=Route a request to an arm and predict")
    assert wrong == []
    assert hosts == {live_server.url.split("/")[2]}
    context.close()
