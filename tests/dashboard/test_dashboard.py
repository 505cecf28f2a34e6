"""The admin in a real browser, and its rules without one."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from noregret.access.models import ApiKey
from noregret.dashboard.figures import progress
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning import shadow_sums
from noregret.learning.models import ArmInterval, ArmStatistics
from noregret.learning.shown import asked
from noregret.learning.shown.results import EvidenceProgress
from noregret.package_path import PACKAGE
from noregret.registry.models import ModelVersion
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry

from serving.models import QuarantinedEvent, ShadowPrediction
from tests.conftest import endpoint_of, static_model
from tests.dashboard.conftest import PASSWORD
from tests.learning.past_traffic import begin_earlier, fill

Start = Callable[..., Experiment]
CHART_JS = PACKAGE / "dashboard" / "static" / "dashboard" / "chart.js"


def test_chart_js__is_the_file_that_its_source_note_names() -> None:
    digest = hashlib.sha256((CHART_JS / "chart.umd.min.js").read_bytes()).hexdigest()
    assert f"{digest}  chart.umd.min.js" in (CHART_JS / "SOURCE.txt").read_text()
    assert "The MIT License" in (CHART_JS / "LICENSE.md").read_text()


def page(experiment: Experiment) -> str:
    return f"/admin/experiments/experiment/{experiment.pk}/change/"


def do(experiment: Experiment, action: str) -> str:
    return f"/admin/experiments/experiment/{experiment.pk}/do/{action}"


def test_pages__all__answer(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    paths = ["/admin/", page(experiment), f"/admin/experiments/endpoint/{experiment.endpoint_id}/change/"]
    for model in ("experiments/experiment", "experiments/endpoint", "registry/modelversion", "access/apikey"):
        paths += [f"/admin/{model}/", f"/admin/{model}/add/"]
    paths += ["/admin/trail/auditentry/", "/admin/serving/quarantinedevent/", "/admin/auth/user/"]
    paths += [f"/admin/registry/modelversion/{ModelVersion.objects.latest('pk').pk}/change/"]
    for path in paths:
        assert admin.get(path, follow=True).status_code == 200, path


def test_action__get__asks_and_changes_nothing__post__does(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    for action in ("pause", "stop", "rollback"):
        assert admin.get(do(experiment, action)).status_code == 200
    assert b'<option value="b" selected>b (page@b)' in admin.get(do(experiment, "promote") + "?arm=b").content
    assert admin.head(do(experiment, "stop")).status_code == 200
    experiment.refresh_from_db()
    assert experiment.status == "running"
    assert admin.post(do(experiment, "pause"), {"reason": "lunch"}).status_code == 302
    experiment.refresh_from_db()
    assert experiment.status == "paused"
    entry = AuditEntry.objects.latest("pk")
    assert (entry.actor, entry.action, entry.reason) == ("root", "experiment.paused", "lunch")


def test_action__not_allowed_in_this_state__is_told_and_not_done(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    answer = admin.post(do(experiment, "start"), {"reason": "again"}, follow=True)
    assert b"Not done: e is running" in answer.content
    assert admin.get(do(experiment, "explode")).status_code == 404
    for arm in ("none", ""):
        assert admin.post(do(experiment, "promote"), {"arm": arm}).status_code == 400
    experiment.refresh_from_db()
    assert experiment.status == "running"


def test_action__without_a_reason__is_not_done(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    for sent in ({}, {"reason": "  "}):
        answer = admin.post(do(experiment, "pause"), sent)
        assert answer.status_code == 400
        assert b"Say why" in answer.content
    experiment.refresh_from_db()
    assert experiment.status == "running"


def test_action__against_what_is_known__wants_a_second_look(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    begin_earlier(experiment)
    fill(experiment, {"a": (80, 20), "b": (20, 80)})
    ArmStatistics.objects.filter(arm__name="a").update(decisions=100, rewards=100, mean=0.8, m2=16.0)
    ArmStatistics.objects.filter(arm__name="b").update(decisions=100, rewards=100, mean=0.2, m2=16.0)
    sent = {"arm": "b", "reason": "I like it"}
    warned = admin.post(do(experiment, "promote"), sent)
    assert warned.status_code == 200
    assert b"Nobody leads yet: no decision has matured yet." in warned.content
    assert Experiment.objects.get().status == "running"
    assert admin.post(do(experiment, "promote"), sent | {"seen": "on"}).status_code == 302
    assert Experiment.objects.get().promoted_arm == experiment.arms.get(name="b")


def test_arms__taken_out_and_put_back__from_the_page(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    assert "take out b" in admin.get(page(experiment)).content.decode()
    admin.post(do(experiment, "disable"), {"arm": "b", "reason": "it fails"})
    assert not experiment.arms.get(name="b").enabled
    last = admin.post(do(experiment, "disable"), {"arm": "a", "reason": "too"}, follow=True).content.decode()
    assert "Not done: a is the last arm that is enabled" in last
    assert "put back b" in last
    admin.post(do(experiment, "enable"), {"arm": "b", "reason": "mended"})
    assert experiment.arms.get(name="b").enabled
    shown = admin.get(page(experiment)).content.decode()
    assert "took out b" in shown
    assert "it fails" in shown


def test_arm__added_from_the_page__or_refused_beside_its_field(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    static_model("page", "c", {"text": "C"})
    assert b"with a burn-in of its own" in admin.get(do(experiment, "add")).content
    sent = {"name": "c", "model": "page@c", "reason": "a third"}
    for wrong in ({"model": "page@z"}, {"name": "C D"}, {"reason": ""}, {"payload": "{"}):
        assert admin.post(do(experiment, "add"), sent | wrong).status_code == 400, wrong
    assert experiment.arms.count() == 2
    assert admin.post(do(experiment, "add"), sent).status_code == 302
    assert experiment.arms.get(name="c").model.model == "page@c"
    assert AuditEntry.objects.latest("pk").reason == "a third"
    again = admin.post(do(experiment, "add"), sent, follow=True).content.decode()
    assert "Not done: e has an arm c already" in again


def test_action__without_csrf_token__is_refused(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="root"))
    assert strict.post(do(experiment, "stop"), {}).status_code == 403
    experiment.refresh_from_db()
    assert experiment.status == "running"


def test_figures__of_a_running_experiment__are_those_of_the_page(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    url = f"/admin/experiments/experiment/{experiment.pk}/figures.json"
    found = admin.get(url)
    assert found.status_code == 200
    assert "no-store" in found["Cache-Control"]
    assert found.json()["status"] == "running"
    assert found.json()["facts"]["decisions"] == "0"
    assert set(found.json()["cells"]) == {"a", "b"}
    assert admin.post(url).status_code == 405
    assert Client().get(url).status_code == 302


def test_progress__is_logarithmic__and_none_where_nothing_is_known() -> None:
    assert progress(EvidenceProgress("b", 10.0, 100.0, 0)) == pytest.approx(0.5)
    assert progress(EvidenceProgress("b", 0.2, 40.0, 0)) == 0.0
    assert progress(EvidenceProgress("b", 1e9, 40.0, 0)) == 1.0
    assert progress(EvidenceProgress("b", None, None, 0)) is None


def test_page__says_in_words__what_the_experiment_does(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(policy={"name": "ucb1", "floor": 0.1}, reward={"kind": "binary", "window_seconds": 5400})
    shown = admin.get(page(experiment)).content.decode()
    assert "every request to pages is routed to one of its arms" in shown
    assert "UCB1" in shown
    assert "at least 10.0% of the traffic" in shown
    assert "within 90 min of the decision" in shown


def test_page__asked_what_another_policy_would_have_earned__answers(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(
        policy={"name": "uniform", "params": {"discount": 0.999}}, reward={"kind": "binary", "window_seconds": 1}
    )
    begin_earlier(experiment)
    fill(experiment, {"a": (30, 70), "b": (60, 40)})
    learn(experiment.endpoint_id)
    first = admin.get(page(experiment)).content.decode()
    assert "What would another policy have earned?" in first
    assert "With discount 0.999." in first
    assert "lin-ucb" not in first  # it would need declared features
    url = page(experiment) + "?evaluate=thompson"
    with CaptureQueriesContext(connection) as asked_of:
        waits = admin.get(url).content.decode()
    assert "It is being computed" in waits
    assert "evaluate=thompson" in re.search(r'data-figures="([^"]+)"', waits)[1]  # type: ignore[index]  # it is there
    read = [query["sql"] for query in asked_of if "serving_decision" in query["sql"] and "propensities" in query["sql"]]
    assert read == []  # no request computes it: a worker does
    figures = f"/admin/experiments/experiment/{experiment.pk}/figures.json?evaluate=thompson"
    before = admin.get(figures)
    asked.make(experiment.pk, asked.evaluation_by("thompson"))
    after = admin.get(figures, headers={"If-None-Match": before["ETag"]})
    for shown in (admin.get(url).content.decode(), after.json()["parts"]["evaluation"]):
        assert "Doubly robust" in shown
        assert "From 200 matured decisions with a reward" in shown
        assert "being computed" not in shown
    assert "Importance weighting" not in admin.get(page(experiment) + "?evaluate=magic").content.decode()


def test_page__canary_and_apprentice__go_on_by_confirmed_steps(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(
        strategy="canary",
        arms=[{"name": "new", "model": "page@b"}],
        guardrails=[{"metric": "error_rate", "max": 0.02, "action": "rollback"}],
    )
    shown = admin.get(page(experiment)).content.decode()
    assert "The challenger gets 5%, 25%, 50%, 100% of the units" in shown
    assert "error_rate is shown to be more than 2%, the experiment is rolled back" in shown
    assert do(experiment, "advance") in shown
    assert "goes to its next step now" in admin.get(do(experiment, "advance")).content.decode()
    experiment.refresh_from_db()
    assert experiment.canary_step == 0
    warned = admin.post(do(experiment, "advance"), {"reason": "calm"})
    assert b"the step bakes for another" in warned.content.lower()
    admin.post(do(experiment, "advance"), {"reason": "calm", "seen": "on"})
    experiment.refresh_from_db()
    assert experiment.canary_step == 1
    assert AuditEntry.objects.get(action="experiment.advanced").reason == "calm"
    told = admin.post(do(experiment, "activate"), {"reason": "x", "seen": "on"}, follow=True).content.decode()
    assert "nothing to activate" in told


def test_page__shadow__shows_challengers_beside_the_champion(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(strategy="shadow", arms=[{"name": "new", "model": "page@b"}])
    ShadowPrediction.objects.create(
        decision_id="00000000-0000-0000-0000-000000000001",
        decided_at=timezone.now(),
        experiment_id=experiment.pk,
        arm_id=experiment.arms.get(name="new").pk,
        latency_ms=2.5,
        champion_latency_ms=1.0,
        agrees=False,
        difference=0.5,
        predicted=[1.5],
        champion_predicted=[1],
    )
    shadow_sums.catch_up(experiment)
    shown = admin.get(page(experiment)).content.decode()
    assert "Challengers against the champion" in shown
    assert "0.0%" in shown
    assert "2.60" in shown  # the upper edge of its bucket
    assert "copy of 100% of the requests" in shown


def test_endpoint__champion_changed_and_rolled_back__through_the_services(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    endpoint = experiment.endpoint
    url = f"/admin/experiments/endpoint/{endpoint.pk}"
    b = ModelVersion.objects.get(version="b")
    wanted = {"champion": b.pk, "deadline_ms": 150, "reason": "b is cheaper"}
    refused = admin.post(f"{url}/do/change", wanted, follow=True)
    assert b"Not done: the experiment e runs on pages" in refused.content
    admin.post(do(experiment, "pause"), {"reason": "for b"})
    assert admin.get(f"{url}/do/change").status_code == 200
    assert Endpoint.objects.get().champion.version == "a"
    assert admin.post(f"{url}/do/change", wanted).status_code == 302
    changed = Endpoint.objects.get()
    assert (changed.champion.version, changed.deadline_ms) == ("b", 150)
    assert b"Roll back" in admin.get(f"{url}/change/").content
    assert admin.post(f"{url}/do/rollback", {"reason": "it was not"}).status_code == 302
    assert Endpoint.objects.get().champion.version == "a"
    assert AuditEntry.objects.latest("pk").action == "endpoint.rolled_back"


def test_login__at_its_own_address__leads_to_the_overview(platform: None) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    answer = Client().post("/admin/login/", {"username": "root", "password": PASSWORD})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


def test_overview__staff_without_permissions__learns_nothing(two_arms: Start) -> None:
    two_arms()
    nobody = User.objects.create_user("nobody", password=PASSWORD, is_staff=True)
    client = Client()
    client.force_login(nobody)
    shown = client.get("/admin/")
    assert shown.status_code == 200
    assert b"Health" in shown.content
    for secret in (b"page@a", b"experiment.started", b"/admin/experiments/experiment/", b"/admin/trail/auditentry/"):
        assert secret not in shown.content


def test_quarantine__damaged_event__is_shown_as_bytes(admin: Client) -> None:
    row = QuarantinedEvent.objects.create(stream="s", entry_id="1-0", problem="no event", body=b"\xc1<b>")
    shown = admin.get(f"/admin/serving/quarantinedevent/{row.pk}/change/").content
    assert b"4 bytes. no MessagePack" in shown
    assert b"c1 3c 62 3e" in shown


def test_permissions__staff_who_may_only_look__cannot_act(two_arms: Start, permissions: None) -> None:
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
    made = admin.post("/admin/experiments/endpoint/add/", {"name": "pages", "champion": "page@a", "deadline_ms": "250"})
    assert made.status_code == 302
    endpoint = Endpoint.objects.get()
    assert (endpoint.champion.version, endpoint.deadline_ms) == ("a", 250)


def test_form_of_a_remote_model__takes_a_protocol_by_its_name(admin: Client) -> None:
    url = "/admin/registry/modelversion/add/"
    sent = {"name": "far", "version": "1", "framework": "http", "url": "http://model.example.com", "protocol": "mlflow"}
    refused = admin.post(url, sent)
    assert refused.status_code == 400
    assert b"NOREGRET_REMOTE_HOSTS" in refused.content  # it is the host that is not taken
    assert b"not one of the available choices" in admin.post(url, sent | {"protocol": "smoke"}).content


def test_key__made_and_revoked__is_shown_once(admin: Client) -> None:
    shown = admin.post("/admin/access/apikey/add/", {"name": "service", "scopes": ["predict"]})
    found = re.search(rb"<code>(nr_[\w-]{43})</code>", shown.content)
    assert found is not None
    text = found[1]
    assert "no-store" in shown["Cache-Control"]
    assert text.decode() not in str(shown.cookies)
    key = ApiKey.objects.get()
    assert text not in admin.get(f"/admin/access/apikey/{key.pk}/change/").content
    admin.post(f"/admin/access/apikey/{key.pk}/do/revoke", {"reason": "leaked"})
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_key__form_sent_again_by_a_reload__makes_no_second(admin: Client) -> None:
    once = re.search(r'name="once" value="(\w+)"', admin.get("/admin/access/apikey/add/").content.decode())
    assert once
    sent = {"name": "service", "scopes": ["predict"], "once": once[1]}
    assert b"<code>nr_" in admin.post("/admin/access/apikey/add/", sent).content
    again = admin.post("/admin/access/apikey/add/", sent, follow=True)
    assert b"Nothing was made" in again.content
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("days", ["99999999999", "2913000", "0", "1.5"])
def test_key__days_that_no_key_can_have__are_told_beside_their_field(admin: Client, days: str) -> None:
    told = admin.post("/admin/access/apikey/add/", {"name": "service", "scopes": ["predict"], "days": days})
    assert told.status_code == 400
    assert ApiKey.objects.count() == 0


def fill_in_experiment(tab: Any) -> None:
    """A bandit of two arms, by the form's script."""
    tab.fill("input[name=name]", "e")
    assert tab.input_value("input[name=endpoint]") == "pages"
    tab.check("input[value=canary]")
    tab.click("button:has-text('Next:')")
    tab.click("button:has-text('How careful')")
    tab.fill("[name='canary.bake_seconds']", "5")
    tab.click("button:has-text('1Strategy')")
    tab.check("input[value=bandit]")
    tab.click("button:has-text('Next:')")
    assert [row.inner_text() for row in tab.locator("[data-row] legend").all() if row.is_visible()] == ["Arm 1"]
    assert not tab.locator("[name='arms[0].weight']").count()
    tab.fill("[name='arms[0].name']", "control")
    tab.fill("[name='arms[0].model']", "page@a")
    tab.click("button:has-text('Add arm')")
    assert tab.evaluate("document.activeElement.name") == "arms[3].name"
    tab.click("button:has-text('Add arm')")
    tab.locator("button:has-text('Remove'):visible").last.click()
    tab.fill("[name='arms[3].name']", "vb")
    tab.fill("[name='arms[3].model']", "page@b")
    with tab.expect_navigation():  # the browser has no history to go back in while it leaves a page
        tab.click("button:has-text('Next:')")
    # Back and forth by the browser's own buttons: each step is as it was left.
    tab.go_back()
    assert tab.input_value("[name='arms[0].model']") == "page@a"
    tab.go_forward()
    tab.click("button:has-text('Next:')")
    # What was typed for another strategy is not asked for, and not sent.
    assert not tab.locator("[name='canary.bake_seconds']").count()
    tab.click("button:has-text('Review')")
    tab.get_by_role("heading", name="What will happen").wait_for()


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
    tab.get_by_text("Nothing is registered yet").wait_for()

    static_model("page", "a", "A")
    static_model("page", "b", "B")
    endpoint_of("pages", "page@a")
    tab.goto(f"{live_server.url}/admin/experiments/experiment/add/")
    fill_in_experiment(tab)
    tab.click("text=Create and start")
    tab.fill("textarea[name=reason]", "a try")
    tab.click("button:has-text('Start')")
    assert tab.locator(".nr-badge").inner_text() == "Running"
    tab.get_by_text("No decision was learned yet.").first.wait_for()  # no learner runs here
    running = Experiment.objects.get()
    began = tab.inner_text('[data-fact="as_of"]')
    tab.wait_for_timeout(1_100)  # it is told to the second
    ArmStatistics.objects.filter(arm__name="vb").update(decisions=7, rewards=7, mean=1.0)
    ArmInterval.objects.create(
        arm=running.arms.get(name="vb"), start=timezone.now(), decisions=7, rewards=7, reward_total=7
    )
    tab.wait_for_function("document.querySelector('[data-fact=decisions]').textContent === '7'", timeout=15_000)
    assert tab.inner_text('tr[data-arm="vb"] [data-cell="decisions"]') == "7"
    assert tab.inner_text('[data-fact="as_of"]') != began
    tab.locator("[data-chart=share] canvas").wait_for()
    assert [canvas.is_visible() for canvas in tab.locator("canvas").all()] == [False, True, True, True]
    assert "The first point is noted" in tab.inner_text("[data-chart=evidence]")
    # A single stretch of shares is a bar as wide as its time, and no lone dots.
    bars = tab.evaluate(
        "() => { const drawn = Chart.getChart(document.querySelector('[data-chart=share] canvas'));"
        " return drawn.data.datasets.map((one, i) => { const [from, to] = drawn.getDatasetMeta(i).data;"
        " return [one.pointRadius, to.x - from.x > 30 && to.x <= drawn.chartArea.right] }) }"
    )
    assert bars == [[0, True], [0, True]]
    # The admin's theme brings a Chart.js of its own: the page draws with ours.
    assert f"Chart.js {tab.evaluate('Chart.version')}," in (CHART_JS / "SOURCE.txt").read_text()
    tab.click("text=Promote an arm")
    assert "becomes the champion of pages" in tab.inner_text(".nr-question")
    tab.select_option("select[name=arm]", label="vb (page@b)")
    tab.fill("textarea[name=reason]", "a try")
    tab.click("button:has-text('Promote')")
    assert "It goes against what is known" in tab.inner_text(".nr-objection")
    tab.check("input[name=seen]")
    tab.click("button:has-text('Promote')")
    assert tab.locator(".nr-badge").inner_text() == "Completed: promoted"
    tab.get_by_text("vb was promoted: page@b is champion").wait_for()
    assert Endpoint.objects.get().champion.model == "page@b"

    tab.set_viewport_size({"width": 390, "height": 844})
    model = ModelVersion.objects.latest("pk").pk
    phone = ["/admin/", page(running), f"/admin/registry/modelversion/{model}/change/", f"{do(running, 'stop')}"]
    phone += [f"/admin/experiments/endpoint/{running.endpoint_id}/change/"]
    phone += [f"/admin/{rows}/add/" for rows in ("experiments/experiment", "experiments/endpoint", "access/apikey")]
    phone += ["/admin/trail/auditentry/", "/admin/access/apikey/", "/admin/experiments/experiment/"]
    for path in phone:
        tab.goto(f"{live_server.url}{path}")
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0, path
    tab.goto(f"{live_server.url}/api/docs")
    tab.wait_for_selector("text=Route a request to an arm and predict")
    assert wrong == []
    assert hosts == {live_server.url.split("/")[2]}
    context.close()


def test_browser__without_javascript__shows_the_tables(
    browser: Any, live_server: Any, two_arms: Start, admin: Client
) -> None:
    experiment = two_arms()
    ArmStatistics.objects.filter(arm__name="b").update(decisions=7, rewards=7, mean=1.0)
    context = browser.new_context(java_script_enabled=False)
    host = live_server.url.split("//")[1].split(":")[0]
    session = admin.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "domain": host, "path": "/"}])
    tab = context.new_page()
    tab.goto(live_server.url + page(experiment))
    assert tab.locator('tr[data-arm="b"] [data-cell="decisions"]').is_visible()
    assert tab.inner_text('tr[data-arm="b"] [data-cell="decisions"]') == "7"
    assert tab.locator("canvas").first.is_hidden()
    tab.click("a:has-text('Pause')")
    tab.fill("textarea[name=reason]", "lunch")
    tab.click("button:has-text('Pause')")
    assert tab.locator(".nr-badge").inner_text() == "Paused"
    context.close()
