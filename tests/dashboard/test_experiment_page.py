"""The page of an experiment: bounded, fresh, readable by anybody, and for each strategy its own."""

import csv
import io
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from noregret.experiments.models import Arm, Experiment
from noregret.learning import shadow_sums
from noregret.learning.models import ArmInterval, ArmStatistics, StandingPoint
from noregret.trail.models import AuditEntry

from serving.models import ShadowPrediction
from tests.conftest import endpoint_of, start_experiment, static_model
from tests.dashboard.conftest import PASSWORD
from tests.dashboard.test_dashboard import do, page
from tests.learning.past_traffic import begin_earlier

Start = Callable[..., Experiment]
MOST_QUERIES = 60
# Tables of arms that are wider than their box; texts of an axis that lie on each other; boxes that
# hold more than is seen and have no shadow at their sides.
CUT = "[...document.querySelectorAll('.nr-arms')].filter(t => t.scrollWidth > t.parentElement.clientWidth).map(t => t.innerText)"
OVERLAPPING = """
[...document.querySelectorAll('svg')].flatMap(svg => {
    const boxes = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
    return boxes.slice(1).filter((box, i) => box.left < boxes[i].right).map(box => svg.outerHTML);
})"""
UNTOLD = """
[...document.querySelectorAll('.nr-scroll')].filter(box => box.scrollWidth > box.clientWidth
    && !getComputedStyle(box).backgroundAttachment.includes('local')).map(box => box.innerText)"""
BROWSER_STRATEGIES = ("bandit", "canary", "shadow", "ab")


def lived(experiment: Experiment, hours: int = 12) -> Experiment:
    """The same after some hours of traffic, as its sums would have them."""
    begin_earlier(experiment, 3600.0 * hours)
    now = timezone.now()
    for i, arm in enumerate(experiment.arms.order_by("position")):
        for hour in range(hours):
            good = 50 + 5 * i + hour
            ArmInterval.objects.create(
                arm=arm, start=now - timedelta(hours=hours - hour), decisions=1000, rewards=1000, reward_total=good,
                reward_m2=good - good**2 / 1000,
            )  # fmt: skip
        n, good = 1000 * hours, sum(50 + 5 * i + hour for hour in range(hours))
        ArmStatistics.objects.filter(arm=arm).update(
            decisions=n, rewards=n, mean=good / n, m2=good - good**2 / n, latencies=[0] * 20 + [n], delays=[n - 5, 5]
        )
    for hour in range(hours):
        shares = {arm.name: 0.5 + (0.03 * hour if arm.position else -0.03 * hour) for arm in experiment.arms.all()[:2]}
        evidence = dict.fromkeys(shares, 1.3**hour)
        at = now - timedelta(hours=hours - hour)
        StandingPoint.objects.create(experiment=experiment, at=at, matured=hour, shares=shares, evidence=evidence)
    return experiment


def mirrored(experiment: Experiment, predictions: int = 20) -> Experiment:
    """A shadow whose challenger has answered copies, a half of them otherwise."""
    arm = experiment.arms.get(is_control=False)
    for i in range(predictions):
        ShadowPrediction.objects.create(
            decision_id=uuid.uuid4(), decided_at=timezone.now() - timedelta(seconds=i), experiment_id=experiment.pk,
            arm_id=arm.pk, latency_ms=2.5, champion_latency_ms=1.0, agrees=bool(i % 2), difference=(i % 2 == 0) * 0.1 * i,
            predicted=["<b>new</b>"], champion_predicted=[1],
        )  # fmt: skip
    shadow_sums.catch_up(experiment)
    return experiment


def started(strategy: str) -> Experiment:
    """An experiment of a strategy on an endpoint of its name."""
    if not Arm.objects.exists():
        for version in "ab":
            static_model("page", version, version)
    endpoint_of(strategy, "page@a")
    new = [{"name": "new", "model": "page@b"}]
    both = [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b"}]
    body: dict[str, Any] = {"name": strategy, "endpoint": strategy, "reward": {"kind": "binary", "window_seconds": 1}}
    match strategy:
        case "canary":
            rails = [{"metric": "error_rate", "max": 0.02, "action": "rollback"}]
            made = start_experiment(body | {"strategy": "canary", "arms": new, "guardrails": rails})
        case "shadow":
            made = mirrored(start_experiment(body | {"strategy": "shadow", "arms": new}))
        case "apprentice":
            made = start_experiment(body | {"strategy": "bandit", "arms": both, "apprentice": True})
        case "contextual":
            fields = [{"name": "x", "type": "number", "min": 0, "max": 1}]
            policy = {"name": "lin-ucb"}
            contextual = {"strategy": "bandit", "arms": both, "policy": policy, "context": {"fields": fields}}
            made = start_experiment(body | contextual)
        case _:
            made = start_experiment(body | {"strategy": strategy, "arms": both})
    return lived(made)


STRATEGIES = {
    "bandit": ("leads", "What it earned", "Evidence that an arm is best"),
    "ab": ("leads", "Difference to the control", "b beside a"),
    "canary": ("Step 1 of 4", "Guardrails", "at most 2%"),
    "shadow": ("agrees with the champion on 50.0%", "How far answers differ", "&lt;b&gt;new&lt;/b&gt;"),
    "apprentice": ("The policy serves nobody", "What the policy would have chosen", "Its choices are not scored"),
    "contextual": ("The policy chooses by the request", "Which arm for whom", "are not drawn beside each other"),
}


def test_page__of_each_strategy__says_what_it_has_come_to__in_bounded_queries(admin: Client, platform: None) -> None:
    for strategy, texts in STRATEGIES.items():
        experiment = started(strategy)
        with CaptureQueriesContext(
            connection,
        ) as first:
            shown = admin.get(page(experiment)).content.decode()
        for text in texts:
            assert text in shown, (strategy, text)
        assert "<b>new</b>" not in shown
        assert len(first) <= MOST_QUERIES, strategy
        AuditEntry.objects.bulk_create(
            AuditEntry(actor="anna", action="experiment.paused", experiment=strategy, reason=f"r{i}") for i in range(80)
        )
        now = timezone.now()
        StandingPoint.objects.bulk_create(
            StandingPoint(experiment=experiment, at=now + timedelta(seconds=i), matured=i) for i in range(200)
        )
        with CaptureQueriesContext(connection) as second:
            admin.get(page(experiment))
        assert len(second) <= len(first), strategy


def test_arm_without_any_reward__is_no_answer_alike(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    for name, rewards in (("a", 100), ("b", 0)):
        ArmStatistics.objects.filter(arm__name=name).update(decisions=285, rewards=rewards, mean=0.2)
    assert "No: b has no reward, the others have 100." in admin.get(page(experiment)).content.decode()


def test_figures__asked_again__are_not_modified__until_something_is(
    admin: Client, two_arms: Start, monkeypatch: Any
) -> None:
    monkeypatch.setattr("noregret.dashboard.experiment_page.CLOCK_SECONDS", 1e9)  # nothing follows from it meanwhile
    experiment = lived(two_arms())
    url = f"/admin/experiments/experiment/{experiment.pk}/figures.json"
    first = admin.get(url)
    told = {"actions", "verdict", "decision", "arms", "strategy", "soundness", "timeline", "evaluation"}
    assert set(first.json()["parts"]) == told
    with CaptureQueriesContext(connection) as asked:
        again = admin.get(url, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    read = [query["sql"] for query in asked if query["sql"].strip().startswith("SELECT")]
    assert len(read) <= 4, read  # the session, the person, the experiment and its rows' versions
    ArmStatistics.objects.filter(arm__name="a").update(decisions=99_999)
    fresh = admin.get(url, headers={"If-None-Match": first["ETag"]})
    assert fresh.status_code == 200
    assert fresh.json()["cells"]["a"]["decisions"] == "99,999"


def test_charts__as_csv__tell_what_is_drawn(admin: Client, two_arms: Start) -> None:
    experiment = lived(two_arms(reward={"kind": "binary", "window_seconds": 1}))
    base = f"/admin/experiments/experiment/{experiment.pk}/charts"
    answer = admin.get(f"{base}/so-far.csv")
    assert answer["Content-Type"].startswith("text/csv")
    header, *rows = csv.reader(io.StringIO(answer.content.decode()))
    assert header == ["from_utc", "arm", "value", "low", "high"]
    last = [row for row in rows if row[1] == "b"][-1]
    assert float(last[3]) < float(last[2]) < float(last[4])
    assert float(last[2]) == pytest.approx(sum(55 + hour for hour in range(12)) / 12_000)
    assert admin.get(f"{base}/none.csv").status_code == 404
    assert Client().get(f"{base}/share.csv").status_code == 302


def test_page__whoever_may_only_look__sees_no_action_and_no_trail(two_arms: Start, permissions: None) -> None:
    experiment = lived(two_arms())
    looker = User.objects.create_user("looker", password=PASSWORD, is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_experiment"))
    client = Client()
    client.force_login(looker)
    shown = client.get(page(experiment)).content.decode()
    assert "You may look and not act" in shown
    assert "made the draft" not in shown
    figures = client.get(f"/admin/experiments/experiment/{experiment.pk}/figures.json").json()
    assert "/do/" not in str(figures["parts"])
    assert client.post(do(experiment, "disable"), {"arm": "b", "reason": "x"}).status_code == 403
    assert client.get(f"/admin/experiments/experiment/{experiment.pk}/charts/share.csv").status_code == 200


def test_page__paused_and_ended__say_by_whom_and_why(admin: Client, two_arms: Start) -> None:
    experiment = lived(two_arms())
    admin.post(do(experiment, "pause"), {"reason": "an incident"})
    shown = admin.get(page(experiment)).content.decode()
    assert "Paused by root at" in shown
    assert "(an incident): all traffic of pages goes to its champion" in shown
    admin.post(do(experiment, "stop"), {"reason": "too dear"})
    assert "The experiment was stopped by root: too dear." in admin.get(page(experiment)).content.decode()


def test_forecast__asked_for_by_the_page__comes_into_the_verdict(admin: Client, two_arms: Start) -> None:
    experiment = lived(two_arms(strategy="shadow", arms=[{"name": "new", "model": "page@b"}]))
    url = f"/admin/experiments/experiment/{experiment.pk}/forecast.json"
    assert admin.get(url).status_code == 404  # its end is no matter of evidence
    Experiment.objects.filter(pk=experiment.pk).update(strategy="ab")
    assert "said" in admin.get(url).json()


def test_browser__each_strategy__without_errors_or_barriers__light_and_dark(
    browser: Any,
    live_server: Any,
    admin: Client,
    platform: None,
) -> None:
    """axe-core finds nothing serious, the console is silent under a policy without inline scripts
    and styles, nothing is fetched from elsewhere, and nothing is wider than a phone."""
    from axe_playwright_python.sync_playwright import Axe

    axe, wrong, hosts = Axe(), [], set()
    experiments = [started(strategy) for strategy in BROWSER_STRATEGIES]
    host = live_server.url.split("//")[1]
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, timezone_id="Asia/Seoul", reduced_motion="reduce")
        session = {"name": "sessionid", "value": admin.cookies["sessionid"].value, "path": "/"}
        context.add_cookies([session | {"domain": host.split(":")[0]}])
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "//" in request.url else None)
        for experiment in experiments:
            tab.set_viewport_size({"width": 1280, "height": 900})
            answer = tab.goto(live_server.url + page(experiment))
            assert "style-src 'self'" in answer.headers["content-security-policy"]
            tab.locator("canvas:visible").first.wait_for()
            barriers = [
                (found["id"], found["nodes"][0]["html"])
                for found in axe.run(tab).response["violations"]
                if found["impact"] in ("serious", "critical")
            ]
            assert barriers == [], (experiment.name, scheme)
            figures_of = tab.locator("[data-fact=as_of]")
            assert "GMT+9" in figures_of.inner_text()
            assert figures_of.get_attribute("title").endswith(" UTC")
            assert tab.evaluate(CUT) == [], experiment.name
            assert tab.evaluate(OVERLAPPING) == [], experiment.name
            tab.set_viewport_size({"width": 390, "height": 844})
            assert tab.evaluate(UNTOLD) == [], experiment.name
            assert tab.evaluate(OVERLAPPING) == [], experiment.name
            wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert tab.evaluate(wider) == 0, (experiment.name, scheme)
        context.close()
    assert wrong == []
    assert hosts == {host}


def test_policy__of_pages__allows_no_script_and_no_style_that_stands_in_them(client: Client, platform: None) -> None:
    told = client.get("/admin/login/")["Content-Security-Policy"].split("; ")
    policy = {rule.split()[0]: rule.split()[1:] for rule in told}
    assert policy["script-src"] == ["'self'", "'unsafe-eval'"]
    assert policy["style-src"] == policy["default-src"] == ["'self'"]
    assert not any("'unsafe-inline'" in rule for rule in told)
    assert policy["object-src"] == policy["frame-ancestors"] == ["'none'"]
