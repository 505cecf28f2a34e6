"""A session that ends in the middle of work leads to the login and comes back to where one was,
with what had been typed; and what a viewer finds in a browser."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from noregret.dashboard.decision import LABELS
from noregret.experiments.models import Experiment
from noregret.trail.models import AuditEntry

from tests.conftest import endpoint_of, static_model
from tests.dashboard.conftest import PASSWORD

Start = Callable[..., Experiment]
SOON = 15_000


@pytest.fixture
def tab(browser: Any, platform: None) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def log_in(tab: Any, user: str) -> None:
    tab.fill("input[name=username]", user)
    tab.fill("input[name=password]", PASSWORD)
    tab.click("button[type=submit]")


def test_session_ended__while_a_page_refreshes__logs_in_and_comes_back(
    tab: Any, live_server: Any, two_arms: Start
) -> None:
    experiment = two_arms()
    User.objects.create_superuser("root", password=PASSWORD)
    for address, refreshed in (
        (f"/admin/experiments/experiment/{experiment.pk}/change/", "#experiment"),
        ("/admin/", "#overview"),
    ):
        tab.goto(live_server.url + address)
        if tab.locator("#login-form").count():
            log_in(tab, "root")
        tab.locator(refreshed).wait_for()
        Session.objects.all().delete()
        tab.locator("#login-form").wait_for(timeout=SOON)
        log_in(tab, "root")
        tab.locator(refreshed).wait_for()
        assert tab.url == live_server.url + address


@pytest.mark.parametrize("lost", ["session", "cookies", "in another tab"])
def test_session_ended__while_a_form_is_filled_in__keeps_what_was_typed(
    tab: Any, live_server: Any, two_arms: Start, lost: str
) -> None:
    experiment = two_arms()
    User.objects.create_superuser("root", password=PASSWORD)
    address = f"{live_server.url}/admin/experiments/experiment/{experiment.pk}/do/promote"
    tab.goto(address)
    log_in(tab, "root")
    tab.select_option("select[name=arm]", "b")
    tab.fill("textarea[name=reason]", "sie \N{LATIN SMALL LETTER U WITH DIAERESIS}berzeugt\nus")
    match lost:
        case "session":
            Session.objects.all().delete()
        case "cookies":
            tab.context.clear_cookies()
        case _:
            Session.objects.all().delete()
            other = tab.context.new_page()
            other.goto(f"{live_server.url}/admin/")
            log_in(other, "root")
            other.locator("#overview").wait_for()
    tab.click("button:has-text('Promote')")
    if lost == "in another tab":
        tab.click("text=Open the form again")
    else:
        log_in(tab, "root")
    tab.get_by_text("What you had typed stands here again").wait_for()
    assert tab.url == address
    assert tab.input_value("select[name=arm]") == "b"
    assert tab.input_value("textarea[name=reason]") == "sie \N{LATIN SMALL LETTER U WITH DIAERESIS}berzeugt\nus"
    experiment.refresh_from_db()
    assert experiment.status == "running"
    # Sent again it is asked as ever, and what was kept is gone.
    tab.click("button:has-text('Promote')")
    tab.check("input[name=seen]")
    tab.click("button:has-text('Promote')")
    assert tab.locator(".nr-badge").first.inner_text() == "Completed: promoted"
    tab.wait_for_function("sessionStorage.length === 0")


def test_session_ended__while_an_experiment_is_written__keeps_its_added_rows(tab: Any, live_server: Any) -> None:
    static_model("page", "a", "A")
    static_model("page", "b", "B")
    endpoint_of("pages", "page@a")
    User.objects.create_superuser("root", password=PASSWORD)
    tab.goto(f"{live_server.url}/admin/experiments/experiment/add/")
    log_in(tab, "root")
    tab.fill("input[name=name]", "e")
    tab.check("input[value=ab]")
    tab.click("button:has-text('Next:')")
    for i, (name, weight) in enumerate((("v1", "0.5"), ("v2", "0.25"), ("v3", "0.25"))):
        place = 0 if i == 0 else i + 2
        if i:
            tab.click("[data-rows=arms] [data-add]")
        tab.fill(f"[name='arms[{place}].name']", name)
        tab.fill(f"[name='arms[{place}].model']", "page@a" if i == 0 else "page@b")
        tab.fill(f"[name='arms[{place}].weight']", weight)
    # What was typed in the steps before is kept beside the sessions that people have.
    sheet = parse_qs(urlsplit(tab.url).query)["form"][0]
    Session.objects.exclude(pk=sheet).delete()
    tab.click("button:has-text('Next:')")
    log_in(tab, "root")
    tab.get_by_text("What you had typed stands here again").wait_for()
    tab.click(".nr-stages button:has-text('Review')")
    tab.click("text=Create draft")
    tab.locator("#experiment").wait_for()
    rows = Experiment.objects.get().arms.order_by("position").values_list("name", "weight")
    assert list(rows) == [("v1", 0.5), ("v2", 0.25), ("v3", 0.25)]


def test_viewer__in_a_browser__sees_every_page_and_can_act_on_none(tab: Any, live_server: Any, two_arms: Start) -> None:
    experiment = two_arms()
    import_module("noregret.access.migrations.0003_roles").make_roles(apps, None)
    viewer = User.objects.create_user("vera", password=PASSWORD, is_staff=True)
    viewer.groups.add(Group.objects.get(name="viewer"))
    tab.goto(f"{live_server.url}/admin/")
    log_in(tab, "vera")
    links = tab.eval_on_selector_all("#nav-sidebar a, nav a", "all => all.map(each => each.href)")
    pages = dict.fromkeys(each.split("#")[0] for each in links if "/admin/" in each)
    row = f"{live_server.url}/admin/experiments"
    pages[f"{row}/experiment/{experiment.pk}/change/"] = pages[f"{row}/endpoint/{experiment.endpoint_id}/change/"] = (
        None
    )
    assert len(pages) >= 6
    for address in pages:
        assert tab.goto(address).status == 200, address
        # Nothing is sent but filters and searches, which read; and whoever looks may log out.
        if address.endswith("/password_change/"):  # everybody's own
            continue
        sent = "form[method=post]:not([action$='/logout/']) :is(button, input):is([type=submit], :not([type]))"
        assert tab.locator(sent).count() == 0, address
        assert tab.locator("a[href*='/do/'], a[href*='/add/'], a[href*='/delete/'], a[href$='/try']").count() == 0, (
            address
        )
    before = AuditEntry.objects.count()
    post = """async address => {
        const token = document.cookie.match(/csrftoken=([^;]+)/)[1];
        const body = new URLSearchParams({ csrfmiddlewaretoken: token, reason: "by hand", arm: "b", seen: "on", name: "c" });
        return (await fetch(address, { method: "POST", body })).status;
    }"""
    for action in LABELS:
        assert tab.evaluate(post, f"{row}/experiment/{experiment.pk}/do/{action}") == 403, action
    for action in ("change", "cache", "batch", "rollback"):
        assert tab.evaluate(post, f"{row}/endpoint/{experiment.endpoint_id}/do/{action}") == 403, action
    for address in (f"{row}/experiment/add/", f"{row}/endpoint/add/"):
        assert tab.evaluate(post, address) == 403, address
    experiment.refresh_from_db()
    assert (experiment.status, AuditEntry.objects.count()) == ("running", before)
