"""Every page of the admin in a browser, light and dark: axe-core finds nothing serious, nothing is
wider than a phone, nothing fails, and nobody else is asked for anything."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.experiments.models import ChampionChange, Experiment
from noregret.learning.models import ArmInterval, ArmStatistics
from noregret.mlflow.models import ImportedVersion
from noregret.notify.models import Delivery, Webhook
from noregret.registry.models import ModelVersion
from noregret.trail import audit

from serving.models import QuarantinedEvent
from tests.dashboard.conftest import PASSWORD

Start = Callable[..., Experiment]
LONG = "a-very-long-name-of-something-that-nobody-would-read-aloud-0001"
SERIOUS = {"serious", "critical"}


class Pages(NamedTuple):
    """Addresses below /admin/: those that are looked at each time, and all others."""

    main: list[str]
    others: list[str]


@pytest.fixture
def everything(two_arms: Start) -> Pages:
    """A row of all that is shown, with long names and texts; the pages."""
    experiment = two_arms(guardrails=[{"metric": "error_rate", "max": 0.02, "action": "pause"}])
    for arm in experiment.arms.all():
        ArmStatistics.objects.filter(arm=arm).update(decisions=900, rewards=800, mean=0.061)
        for hours in range(4):
            start = timezone.now() - timedelta(hours=hours)
            ArmInterval.objects.create(arm=arm, start=start, decisions=90 + hours, rewards=50, reward_total=3.0)
    Experiment.objects.update(asked="promote b")
    key, _ = create_key(name=LONG, scopes=["predict", "feedback", "manage"], actor="t")
    event = QuarantinedEvent.objects.create(
        stream="test:{pages}:decisions", entry_id="1-0", problem=LONG, body=b"x" * 900
    )
    hook = Webhook.objects.create(name="h", url=f"http://127.0.0.1:9/{LONG}", secret="s", events=["*"], created_by="t")
    Delivery.objects.create(webhook=hook, event="e.x", body={"reason": LONG}, due_at=timezone.now(), problem=LONG)
    imported = ImportedVersion.objects.create(
        name="m", version="1", mlflow_name=LONG, mlflow_version="1", metrics={"auc": 0.9}, created_by="t"
    )
    ChampionChange.objects.update(reason=LONG * 3, evidence={"value": 41.3, "needed": 40.0, "rule": "anytime"})
    with transaction.atomic():
        entry = audit.record(actor=LONG, action="experiment.paused", experiment="e", endpoint="pages", reason=LONG * 3)
    user = User.objects.create_user("ann", password=PASSWORD)
    group = Group.objects.create(name="people")
    columns = [{"name": LONG, "type": "string", "nullable": True}]
    ModelVersion.objects.update(signature={"columns": columns, "outputs": ["predict"], "classes": [0, 1]})
    model = ModelVersion.objects.latest("pk").pk
    endpoint = f"experiments/endpoint/{experiment.endpoint_id}"
    quarantined = f"serving/quarantinedevent/{event.pk}"
    return Pages(
        main=[
            "",
            f"{endpoint}/change/",
            f"{endpoint}/try",
            f"registry/modelversion/{model}/change/",
            "trail/auditentry/",
            f"{quarantined}/change/",
        ],
        others=[
            "experiments/experiment/",
            "experiments/endpoint/",
            "experiments/endpoint/add/",
            f"{endpoint}/do/change",
            "registry/modelversion/",
            "registry/modelversion/add/",
            "mlflow/importedversion/",
            f"mlflow/importedversion/{imported.pk}/change/",
            "access/apikey/",
            "access/apikey/add/",
            f"access/apikey/{key.pk}/change/",
            f"access/apikey/{key.pk}/do/revoke",
            f"trail/auditentry/{entry.pk}/change/",
            "serving/quarantinedevent/",
            f"{quarantined}/do/discard",
            "notify/delivery/",
            "notify/webhook/",
            "auth/user/",
            f"auth/user/{user.pk}/change/",
            f"auth/group/{group.pk}/change/",
        ],
    )


@pytest.fixture
def tab(browser: Any, live_server: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    yield page
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_main_pages__are_accessible_fit_a_phone_and_ask_nobody_else(
    tab: Any, live_server: Any, everything: Pages, scheme: str
) -> None:
    look_at(tab, live_server, everything.main, scheme)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_other_pages__are_accessible_fit_a_phone_and_ask_nobody_else(
    tab: Any, live_server: Any, everything: Pages, scheme: str
) -> None:
    look_at(tab, live_server, everything.others, scheme)


def look_at(tab: Any, live_server: Any, paths: list[str], scheme: str) -> None:
    """Log in, look at each page in the width of a desk and of a phone, and assert that all is
    well."""
    axe = Axe()
    User.objects.create_superuser("root", password=PASSWORD)
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    hosts: set[str] = set()
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2]) if request.url.startswith("http") else None)
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    tab.goto(f"{live_server.url}/admin/")
    tab.fill("input[name=username]", "root")
    tab.fill("input[name=password]", PASSWORD)
    tab.click("button[type=submit]")
    problems: list[str] = []
    for path in paths:
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.goto(f"{live_server.url}/admin/{path}")
        assert ("dark" in (tab.get_attribute("html", "class") or "").split()) is (scheme == "dark"), path
        if path.endswith("/try"):
            tab.click("button:has-text('Decide')")
            tab.locator("#decision").wait_for()
        found = axe.run(tab).response
        problems += [
            f"{path or 'home'}: {each['id']} ({each['impact']}) at {node['target']}: {node['failureSummary']}"
            for each in found["violations"]
            if each["impact"] in SERIOUS
            for node in each["nodes"][:2]
        ]
        tab.set_viewport_size({"width": 390, "height": 844})
        wider = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wider > 0:
            problems.append(f"{path or 'home'}: {wider} px wider than a phone")
    assert problems == []
    assert wrong == []
    assert hosts == {live_server.url.split("/")[2]}
