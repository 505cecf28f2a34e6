"""Every page of the admin in a browser, light and dark: axe-core finds nothing serious, nothing is
wider than a phone, nothing fails, and nobody else is asked for anything.

The pages are those of the resolver: one that is added is looked at without a word here.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, get_resolver
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.dashboard.decision import LABELS
from noregret.dashboard.experiment_form import STEPS
from noregret.dashboard.models import UnfinishedForm
from noregret.experiments.models import ChampionChange, Endpoint, Experiment
from noregret.learning.models import ArmInterval, ArmStatistics
from noregret.mlflow.models import AliasMove, ImportedVersion
from noregret.notify.models import Delivery, Webhook
from noregret.registry.models import ModelVersion
from noregret.trail import audit

from serving.models import QuarantinedEvent
from tests.dashboard.conftest import PASSWORD

Start = Callable[..., Experiment]
LONG = "a-very-long-name-of-something-that-nobody-would-read-aloud-0001"
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SERIOUS = ["serious", "critical"]
BESIDE_THE_ADMIN = ("api/docs", "demo/digits")
NO_PAGES = (
    "<slug:chart>.csv",
    "onnxruntime-web",  # files that the digits page loads
    "admin/r/",  # leads to the site's own page of a row, and no model has one
    "(?P<url>.*)$",  # adds the slash that is missing
)


@pytest.fixture
def everything(two_arms: Start) -> Experiment:
    """A row of all that is shown, with long names and texts."""
    experiment = two_arms(guardrails=[{"metric": "error_rate", "max": 0.02, "action": "pause"}])
    for arm in experiment.arms.all():
        ArmStatistics.objects.filter(arm=arm).update(decisions=900, rewards=800, mean=0.061)
        for hours in range(4):
            start = timezone.now() - timedelta(hours=hours)
            ArmInterval.objects.create(arm=arm, start=start, decisions=90 + hours, rewards=50, reward_total=3.0)
    Experiment.objects.update(asked="promote b")
    create_key(name=LONG, scopes=["predict", "feedback", "manage"], actor="t")
    QuarantinedEvent.objects.create(stream="test:{pages}:decisions", entry_id="1-0", problem=LONG, body=b"x" * 900)
    hook = Webhook.objects.create(name="h", url=f"http://127.0.0.1:9/{LONG}", secret="s", events=["*"], created_by="t")
    Delivery.objects.create(webhook=hook, event="e.x", body={"reason": LONG}, due_at=timezone.now(), problem=LONG)
    imported = ImportedVersion.objects.create(
        name="m", version="1", mlflow_name=LONG, mlflow_version="1", metrics={"auc": 0.9}, created_by="t"
    )
    AliasMove.objects.create(imported=imported, alias=LONG, endpoint="pages", due_at=timezone.now(), problem=LONG)
    ChampionChange.objects.update(reason=LONG * 3, evidence={"value": 41.3, "needed": 40.0, "rule": "anytime"})
    with transaction.atomic():
        audit.record(actor=LONG, action="experiment.paused", experiment="e", endpoint="pages", reason=LONG * 3)
    ann = User.objects.create_user("ann", email=f"{LONG}@example.org")
    Group.objects.create(name=LONG)
    columns = [{"name": LONG, "type": "string", "nullable": True}]
    ModelVersion.objects.update(signature={"columns": columns, "outputs": ["predict"], "classes": [0, 1]})
    root = User.objects.create_superuser("root", password=PASSWORD)
    UnfinishedForm.objects.create(token="0" * 32, user=root, typed=json.dumps({"name": LONG}), last_step="arms")
    LogEntry.objects.create(
        user=root,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(ann.pk),
        object_repr="ann",
        action_flag=CHANGE,
        change_message=LONG,
    )
    return experiment


def pages_of(client: Client) -> dict[str, str]:
    """The addresses of all that is a page, each of the resolver's that takes GET and answers a
    whole document; and the name of the template of each."""
    rows: dict[str, Any] = {}
    acts: dict[str, list[str]] = {"experiments/experiment": list(LABELS)}
    for model, site in admin.site._registry.items():
        place = f"{model._meta.app_label}/{model._meta.model_name}"
        rows[place] = model._default_manager.order_by("pk").first()
        assert rows[place] is not None, f"no row of {place}: its pages were not looked at"
        acts.setdefault(place, [action.name for action in getattr(site, "row_actions", ())])
    found = []
    for address in _addresses(get_resolver().url_patterns):
        if not address.startswith(("admin/", *BESIDE_THE_ADMIN)) or any(part in address for part in NO_PAGES):
            continue
        place = "/".join(address.split("/")[1:3])
        apps = re.search(r"\^\(\?P<app_label>(.*)\)/\$", address)
        if apps is not None:
            found += [f"/admin/{label}/" for label in apps[1].split("|")]
            continue
        if place in rows:
            address = re.sub(r"<int:pk>|<path:object_id>|<id>", str(rows[place].pk), address)
        for action in acts[place] if "<str:action>" in address else [""]:
            found.append("/" + address.replace("<str:action>", action))
    assert [each for each in found if "<" in each] == [], "say which rows these are of"
    return {address: template for address in found if (template := _template(client, address))}


def _addresses(patterns: Any, before: str = "") -> Iterator[str]:
    for pattern in patterns:
        address = f"{before}{pattern.pattern}"
        if isinstance(pattern, URLPattern):
            yield address
        else:
            yield from _addresses(pattern.url_patterns, address)


def _template(client: Client, address: str) -> str:
    """Of a page; empty where there is none."""
    answer = client.get(address, follow=True)
    if answer.request["PATH_INFO"] != address:  # it leads to another page, which is looked at by its own address
        return ""
    if answer.status_code != 200 or b"</html>" not in b"".join(answer):
        return ""
    return str(answer.templates[0].name)


# Drawn after the page has come: what stands there when it is done.
DRAWN = {"/api/docs": ".opblock-summary-control"}


# Many pages of each, which differ in a title and a few fields: the suite opens one, the soak all.
ALIKE = {"noregret/confirm.html", "admin/object_history.html", "admin/app_index.html"}


@pytest.mark.parametrize("every_one", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_pages__of_the_resolver__are_accessible_fit_a_phone_and_ask_nobody_else(
    browser: Any, live_server: Any, everything: Experiment, client: Client, every_one: bool
) -> None:
    """Every page is opened, as wide as a phone, and one of each template read by axe-core; in the
    soak all are."""
    context = browser.new_context(viewport=DESK, color_scheme="light", reduced_motion="reduce")
    tab = context.new_page()
    looker = Looker(tab)
    log_in(tab, live_server, looker)
    client.force_login(User.objects.get(username="root"))
    pages, read = pages_of(client), set()
    assert len(pages) > 60
    assert set(pages.values()) >= ALIKE
    for address, template in pages.items():
        if template in ALIKE & read and not every_one:
            continue
        tab.goto(live_server.url + address)
        if address in DRAWN:
            tab.locator(DRAWN[address]).first.wait_for()
        if address.startswith("/admin/"):
            looker.check_the_way_past_the_menu(address)
        looker.look(address, by_axe=every_one or template not in read)
        read.add(template)
    look_at_what_is_asked_for(tab, live_server, looker)
    tab.emulate_media(color_scheme="dark")
    tab.goto(f"{live_server.url}/admin/")
    assert "dark" in tab.get_attribute("html", "class").split()
    log_out(tab, looker)
    assert looker.problems == [], "\n".join(looker.problems)
    assert looker.hosts == {live_server.url.split("/")[2]}
    context.close()


def log_in(tab: Any, live_server: Any, looker: "Looker") -> None:
    """The login page, after a wrong password, and into the admin."""
    tab.goto(f"{live_server.url}/admin/")
    looker.look("login")
    for password in ("wrong", PASSWORD):
        tab.fill("input[name=username]", "root")
        tab.fill("input[name=password]", password)
        tab.click("button[type=submit]")
        if password == "wrong":
            tab.get_by_text("Please enter the correct").wait_for()
            looker.look("login refused")


def look_at_what_is_asked_for(tab: Any, live_server: Any, looker: "Looker") -> None:
    """Pages and parts that no address shows: a decision of the playground, menus, and rows that are
    ticked to be deleted."""
    tab.set_viewport_size(DESK)
    tab.goto(f"{live_server.url}/admin/experiments/endpoint/{Endpoint.objects.get().pk}/try")
    tab.click("button:has-text('Decide')")
    tab.locator("#decision").wait_for()
    looker.look("a decision")
    tab.goto(f"{live_server.url}/admin/experiments/experiment/add/")
    for step in STEPS[1:]:
        tab.set_viewport_size(DESK)
        tab.click(f"button[name=to][value={step.name}] >> nth=-1")
        looker.look(f"step {step.name}")
    tab.set_viewport_size(DESK)
    tab.goto(f"{live_server.url}/admin/auth/user/")
    tab.check("#action-toggle")
    tab.select_option("#changelist-actions select", "delete_selected")
    looker.look("ticked users")
    tab.set_viewport_size(DESK)
    tab.click("#changelist-actions button")
    tab.get_by_text("Are you sure").first.wait_for()
    looker.look("ticked users to be deleted")


def log_out(tab: Any, looker: "Looker") -> None:
    tab.set_viewport_size(DESK)
    tab.get_by_text("root", exact=True).first.click()
    tab.get_by_text("Log out").wait_for()
    shown = "getComputedStyle(document.querySelector('form[action*=logout]').closest('nav')).opacity === '1'"
    tab.wait_for_function(shown)
    looker.look("the menu of who is logged in")
    tab.set_viewport_size(DESK)
    tab.get_by_text("Log out").click()
    tab.get_by_text("Log in again").wait_for()
    looker.look("logged out")


class Looker:
    """Looks at what a tab shows; `problems` gathers what is wrong with it."""

    def __init__(self, tab: Any) -> None:
        self._tab = tab
        self.problems: list[str] = []
        self.hosts: set[str] = set()
        tab.on("console", lambda message: self._said(message.type, message.text))
        tab.on("pageerror", lambda error: self._said("error", str(error)))
        tab.on("request", lambda request: self._asked(request.url))

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.problems.append(f"{self._tab.url} said: {text}")

    def _asked(self, url: str) -> None:
        if url.startswith("http"):
            self.hosts.add(url.split("/")[2])

    def check_the_way_past_the_menu(self, at: str) -> None:
        """The first stop of the keyboard leads to the content."""
        first = self._tab.evaluate(
            "() => { const first = document.body.querySelector('a[href], button, input, select, textarea');"
            " return first.getAttribute('href') === '#content' && !!document.getElementById('content') }"
        )
        if not first:
            self.problems.append(f"{at}: no link to the content comes first")

    def look(self, at: str, *, by_axe: bool = True) -> None:
        """At the page as it stands: by axe-core on a desk, all rules in light and that of contrast
        in dark, and whether it fits a phone."""
        mains, titles = self._tab.evaluate(PARTS)
        if mains != 1 or (titles != 1 and "/admin/" in self._tab.url):
            self.problems.append(f"{at}: {mains} main landmarks and {titles} titles, one of each was expected")
        if by_axe:
            self._tab.set_viewport_size(DESK)
            self._tab.evaluate(AXE_SCRIPT)
            found = self._tab.evaluate(LOOK, SERIOUS)
            self.problems += [f"{at}, {each}" for each in found]
        self._tab.set_viewport_size(PHONE)
        wider = self._tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wider > 0:
            self.problems.append(f"{at}: {wider} px wider than a phone")


PARTS = """() => ["main, [role=main]", "h1"].map(each =>
    [...document.querySelectorAll(each)].filter(part => part.checkVisibility()).length)"""
LOOK = """async serious => {
    const problems = [];
    for (const scheme of ["light", "dark"]) {
        // As the theme's own switch does, without a second load.
        document.documentElement.classList.toggle("dark", scheme === "dark");
        const rules = scheme === "light" ? {} : { runOnly: ["color-contrast"] };
        const results = await axe.run({ resultTypes: ["violations"], ...rules });
        for (const violation of results.violations.filter(each => serious.includes(each.impact)))
            for (const node of violation.nodes.slice(0, 2))
                problems.push(`${scheme}: ${violation.id} at ${node.target}: ${node.failureSummary}`);
    }
    document.documentElement.classList.remove("dark");
    return problems;
}"""
