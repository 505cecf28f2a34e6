"""The admin's first page: what needs a person is told, each cause by itself, and a calm platform
calls nobody; the page asks as much of the database for three hundred experiments as for two."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape
from noregret.access.keys import create_key
from noregret.dashboard.home.needs import (
    Baked,
    Cause,
    Failing,
    GuardrailActed,
    NeverAnswered,
    Recommended,
    Situation,
    Unrewarded,
    needs,
)
from noregret.dashboard.home.processes import asked
from noregret.dashboard.home.series import line
from noregret.dashboard.home.situation import PARTS, situation
from noregret.experiments import document as documents
from noregret.experiments.models import Arm, Baseline, ChampionChange, Endpoint, Experiment
from noregret.learning.baselines import hour_of
from noregret.learning.health import sign_of_life
from noregret.learning.models import ArmInterval, ArmStatistics, BaselineInterval, ExperimentEvidence
from noregret.notify.models import Delivery, Webhook
from noregret.redis_client import client, keys
from noregret.registry.models import ModelVersion
from noregret.rollout.arms import set_enabled
from noregret.rollout.creation import create_experiment
from noregret.rollout.transitions import move
from noregret.trail import audit

from serving.learner_sign import Lag
from serving.models import QuarantinedEvent
from tests.conftest import endpoint_of, static_model
from tests.dashboard.conftest import PASSWORD

Start = Callable[..., Experiment]
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
CALM = Situation(NOW)
LEDGER = re.compile(r"serving_(decision|reward|shadowprediction|firstvisit)\b")


@pytest.fixture
def admin(platform: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.mark.parametrize(
    ("cause", "changed", "said", "url"),
    [
        ("redis_away", {"redis_problem": "refused"}, "Redis can't be reached (refused)", "#health"),
        ("workers_silent", {"learner_age": None}, "have never given a sign", "#health"),
        ("workers_silent", {"learner_age": 90.0}, "been silent for 90 s", "#health"),
        (
            "learner_behind",
            {"lagging": {"pages": (45.0, "rewards wait")}, "endpoints": {"pages": 4}},
            "45 s behind with pages: rewards wait",
            "/endpoint/4/",
        ),
        ("web_cannot_serve", {"cannot_serve": "no such store"}, "can't serve anything: no such store", "#health"),
        ("champion_not_loaded", {"not_loaded": {"pages": "no file"}}, "pages is not loaded", "/endpoint/"),
        (
            "champion_failing",
            {"failing": [Failing(4, "pages", "", "", True, 30, 40)], "endpoints": {"pages": 4}},
            "champion of pages failed in 30 of its last 40",
            "/endpoint/4/",
        ),
        (
            "champion_failing",
            {"failing": [Failing(9, "pages", "e", "control", True, 30, 40)]},
            "champion of pages",
            "/experiment/9/",
        ),
        ("arm_failing", {"failing": [Failing(9, "pages", "e", "b", False, 30, 40)]}, "b of e failed in 30", "/9/"),
        ("arm_never_answered", {"never_answered": [NeverAnswered(9, "e", "b", 50)]}, "none of its 50", "/9/"),
        (
            "guardrail_acted",
            {"guarded": [GuardrailActed(9, "e", "paused", "", "too slow", NOW - timedelta(hours=2))]},
            "A guardrail paused e 2 h ago: too slow.",
            "/9/",
        ),
        (
            "guardrail_acted",
            {"guarded": [GuardrailActed(9, "e", "arm_disabled", "b", "errors", NOW)]},
            "took b out of e",
            "/9/",
        ),
        ("recommendation", {"recommended": [Recommended(9, "e", "promote b")]}, "winner, b", "/9/do/promote?arm=b"),
        ("recommendation", {"recommended": [Recommended(9, "e", "stop")]}, "e can end", "/9/do/stop"),
        ("canary_waits", {"baked": [Baked(9, "e", 0.25, NOW)]}, "baked at 25%", "/9/do/advance"),
        ("no_reward", {"unrewarded": [Unrewarded(9, "e", "clicked", 1234)]}, "1,234 decisions and got no clicked", "/9/"),
        ("quarantine", {"quarantined": 1}, "1 event or row is in quarantine", "/quarantinedevent/"),
        ("deliveries_given_up", {"given_up": 2}, "2 notifications were given up", "failed"),
        ("key_expires", {"expiring": [(3, "shop", NOW + timedelta(days=2, hours=1))]}, "shop expires in 2 d", "/3/"),
    ],
)  # fmt: skip
def test_needs__each_cause__is_one_line_with_its_link(
    cause: Cause, changed: dict[str, Any], said: str, url: str
) -> None:
    (need,) = needs(replace(CALM, **changed))
    assert need.cause == cause
    assert said in need.said
    assert url in need.url
    assert need.action


def test_needs__calm__are_none__and_what_hurts_traffic_comes_first() -> None:
    assert needs(CALM) == []
    both = replace(CALM, quarantined=3, failing=[Failing(4, "pages", "", "", True, 30, 40)])
    assert [need.cause for need in needs(both)] == ["champion_failing", "quarantine"]
    # An arm that never answered is told once, and not again as failing.
    twice = replace(
        CALM, never_answered=[NeverAnswered(9, "e", "b", 50)], failing=[Failing(9, "p", "e", "b", False, 50, 50)]
    )
    assert [need.cause for need in needs(twice)] == ["arm_never_answered"]


def test_needs__one_cause_at_many_endpoints__is_one_row_and_what_mends_itself_comes_last() -> None:
    names = [f"p{i:02}" for i in range(19)]
    lagging = {name: (10.0 + i, "decisions wait") for i, name in enumerate(names)}
    busy = replace(CALM, lagging=lagging, recommended=[Recommended(9, "e", "promote b")], quarantined=1)
    found = needs(busy)
    assert [need.cause for need in found] == ["recommendation", "quarantine", "learner_behind"]
    assert found[-1].said == "The learner is up to 28 s behind with 19 endpoints: p18, p17, p16 and 16 more."
    assert (found[-1].url, found[-1].urgent) == ("#health", False)
    # One that stays behind does not mend itself.
    stuck = needs(replace(busy, lagging=lagging | {"p00": (400.0, "rows can't be read")}))
    assert [need.cause for need in stuck] == ["learner_behind", "recommendation", "quarantine"]
    assert stuck[0].urgent
    (bare,) = needs(replace(CALM, not_loaded=dict.fromkeys(names[:3], "no file")))
    assert bare.said == "The champions of 3 endpoints are not loaded in this web process: p00, p01 and p02."


def test_overview__more_needs_than_are_shown__can_be_opened_and_each_is_told_once(
    admin: Client, platform: None
) -> None:
    static_model("page", "a")
    static_model("page", "b")
    many(30)
    sign_of_life({f"many-{i}": Lag(12.0, "decisions wait") for i in range(30)})
    shown = admin.get("/admin/").content.decode()
    listed, _, rest = shown.partition('id="needs"')[2].partition("</section>")[0].partition("<details")
    assert (listed.count("data-cause"), rest.count("data-cause")) == (20, 11)  # 30 winners, one learner
    assert "And 11 more</summary>" in rest
    for i in range(30):
        assert shown.count(f"many-{i} has its winner, b") == 1
        assert f"many-{i} is behind by 12 s" in shown
    assert "There may be more" not in shown
    many(50)
    assert "There may be more than are listed here" in admin.get("/admin/").content.decode()


def causes() -> set[str]:
    return {need.cause for need in needs(situation(timezone.now(), asked(), PARTS))}


def test_situation__of_a_running_platform__has_what_is_there_and_nothing_else(two_arms: Start) -> None:
    experiment = two_arms()
    a, b = experiment.arms.order_by("position")
    assert causes() == {"workers_silent"}
    sign_of_life()
    assert causes() == set()
    sign_of_life({"pages": Lag(45.0, "decisions wait")})
    assert causes() == {"learner_behind"}
    sign_of_life()

    ArmStatistics.objects.filter(arm=b).update(decisions=30, failures=30)
    assert causes() == {"arm_never_answered"}
    ArmStatistics.objects.filter(arm=b).update(decisions=300, failures=30)
    recent = ArmInterval.objects.create(arm=b, start=timezone.now(), decisions=60, failures=30)
    assert causes() == {"arm_failing"}
    ArmInterval.objects.filter(pk=recent.pk).update(arm=a)
    assert causes() == {"champion_failing"}
    ArmInterval.objects.filter(pk=recent.pk).update(failures=3)  # of 60: seen, and not shown
    assert causes() == set()

    Experiment.objects.update(asked="promote b")
    assert causes() == {"recommendation"}
    Experiment.objects.update(asked="", started_at=timezone.now() - timedelta(days=3))
    assert causes() == {"no_reward"}
    ArmStatistics.objects.filter(arm=b).update(rewards=1)
    assert causes() == set()

    QuarantinedEvent.objects.create(stream="s", entry_id="1-0", problem="no event", body=b"x")
    assert causes() == {"quarantine"}
    QuarantinedEvent.objects.all().delete()
    create_key(name="shop", scopes=["predict"], expires_in=timedelta(days=2), actor="t")
    create_key(name="later", scopes=["predict"], expires_in=timedelta(days=90), actor="t")
    assert causes() == {"key_expires"}


def test_situation__what_guardrails_did__is_told_until_a_person_takes_it_up(two_arms: Start) -> None:
    experiment = two_arms()
    sign_of_life()
    b = Arm.objects.select_related("experiment", "model").get(name="b")
    set_enabled(b, False, actor="guardrail", reason="errors")
    assert causes() == {"guardrail_acted"}
    set_enabled(b, True, actor="root")
    assert causes() == set()
    set_enabled(b, False, actor="root")
    assert causes() == set()  # a person's doing needs no person
    move(experiment, "pause", actor="guardrail", reason="too slow")
    (need,) = needs(situation(timezone.now(), asked(), PARTS))
    assert "A guardrail paused e" in need.said
    assert "too slow" in need.said
    move(experiment, "resume", actor="root")
    move(experiment, "pause", actor="root")
    assert causes() == set()
    move(experiment, "rollback", actor="guardrail", reason="worse")
    assert causes() == {"guardrail_acted"}
    Experiment.objects.update(ended_at=timezone.now() - timedelta(days=2))
    assert causes() == set()
    Experiment.objects.update(ended_at=timezone.now() - timedelta(hours=1))
    assert causes() == {"guardrail_acted"}
    start_again(experiment.endpoint)  # whoever begins another has taken it up
    assert "guardrail_acted" not in causes()


def start_again(endpoint: Endpoint) -> None:
    document = {
        "name": "again",
        "endpoint": endpoint.name,
        "strategy": "ab",
        "arms": [{"name": "b", "model": "page@b"}],
    }
    move(create_experiment(msgspec.convert(document, documents.Experiment), actor="t"), "start", actor="t")


def test_situation__single_deployment_and_canary_and_notifications(two_arms: Start) -> None:
    experiment = two_arms(
        strategy="canary", arms=[{"name": "new", "model": "page@b"}], canary={"auto": False, "bake_seconds": 60}
    )
    sign_of_life()
    assert causes() == set()
    Experiment.objects.update(canary_since=timezone.now() - timedelta(seconds=61))
    assert causes() == {"canary_waits"}
    move(experiment, "stop", actor="t")
    baseline = Baseline.objects.get(endpoint=experiment.endpoint, ended_at__isnull=True)
    hour = BaselineInterval.objects.create(
        baseline=baseline, start=hour_of(timezone.now()), decisions=500, failures=100
    )
    assert causes() == {"champion_failing"}
    BaselineInterval.objects.filter(pk=hour.pk).update(failures=0)
    hook = Webhook.objects.create(name="h", url="http://127.0.0.1:9/", secret="s", events=["*"], created_by="t")
    Delivery.objects.create(
        webhook=hook, event="e.x", body={}, due_at=timezone.now(), done_at=timezone.now(), state="failed"
    )
    assert causes() == {"deliveries_given_up"}
    # Each is read for who may see it alone.
    assert needs(situation(timezone.now(), asked(), ())) == []


def many(count: int) -> None:
    """Endpoints, each with a running experiment of two arms and sums of some hours."""
    a, b = ModelVersion.objects.order_by("pk")
    start = Endpoint.objects.count()
    endpoints = Endpoint.objects.bulk_create(
        Endpoint(name=f"many-{i}", champion=a) for i in range(start, start + count)
    )
    ChampionChange.objects.bulk_create(ChampionChange(endpoint=row, champion=a, actor="t") for row in endpoints)
    now = timezone.now()
    experiments = Experiment.objects.bulk_create(
        Experiment(
            name=row.name,
            endpoint=row,
            strategy="bandit",
            status="running",
            policy={"name": "thompson"},
            reward={"kind": "binary"},
            started_at=now - timedelta(days=2),
            asked="promote b",
        )
        for row in endpoints
    )
    ExperimentEvidence.objects.bulk_create(ExperimentEvidence(experiment=row) for row in experiments)
    arms = Arm.objects.bulk_create(
        Arm(experiment=row, position=i, name=name, model=model, is_control=not i)
        for row in experiments
        for i, (name, model) in enumerate((("a", a), ("b", b)))
    )
    ArmStatistics.objects.bulk_create(ArmStatistics(arm=arm, decisions=900, rewards=800, mean=0.1) for arm in arms)
    ArmInterval.objects.bulk_create(
        ArmInterval(arm=arm, start=now - timedelta(hours=i), decisions=30, failures=9, rewards=20, reward_total=2.0)
        for arm in arms
        for i in range(6)
    )


def test_overview__many_endpoints_and_experiments__asks_the_database_as_often(admin: Client) -> None:
    static_model("page", "a")
    static_model("page", "b")
    many(2)
    admin.get("/admin/")  # what a process reads once
    with CaptureQueriesContext(
        connection,
    ) as few:
        assert admin.get("/admin/").status_code == 200
    many(298)
    with CaptureQueriesContext(connection) as lots:
        answer = admin.get("/admin/")
    shown = answer.content.decode()
    assert shown.count("nr-endpoint") == 12
    assert "Page 1 of 25, 300 endpoints" in shown
    assert shown.count("data-cause") <= 220  # so many needs are shown or can be opened
    assert len(lots) <= len(few) <= 45, [query["sql"][:90] for query in lots]
    assert not [query["sql"] for query in lots if LEDGER.search(query["sql"])]
    assert admin.get("/admin/?page=25").content.decode().count("nr-endpoint") == 12
    assert admin.get("/admin/?page=x").status_code == 200


def test_overview__a_young_single_deployment__tells_its_decisions(admin: Client, platform: None) -> None:
    static_model("page", "a", "A")
    endpoint = endpoint_of("pages", "page@a")
    baseline = Baseline.objects.get(endpoint=endpoint)
    BaselineInterval.objects.create(baseline=baseline, start=hour_of(timezone.now()), decisions=4371, rewards=8)
    shown = admin.get("/admin/").content.decode()
    assert "Decisions <strong>4,371</strong>" in shown
    assert "No decision was recorded" not in shown


def test_overview__a_card__tells_champion_traffic_reward_and_what_runs(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(
        guardrails=[{"metric": "error_rate", "max": 0.02, "action": "pause"}],
        reward={"kind": "binary", "metric": "clicked", "window_seconds": 60},
    )
    shown = admin.get("/admin/").content.decode()
    assert "by tests" in shown
    assert "No decision was recorded in the last 4 hours" in shown
    assert "Without decisions there is no reward" in shown
    assert "<svg" not in shown.split("nr-endpoint")[1].split("</article>")[0]
    assert "Guardrails: error_rate at most 2%, or pause." in shown
    a, b = experiment.arms.order_by("position")
    for arm, mean in ((a, 0.05), (b, 0.061)):
        ArmStatistics.objects.filter(arm=arm).update(decisions=2000, rewards=1000, mean=mean)
        for minutes in (25, 45):
            ArmInterval.objects.create(
                arm=arm, start=timezone.now() - timedelta(minutes=minutes), decisions=100, rewards=50, reward_total=3.0
            )
    shown = admin.get("/admin/").content.decode()
    assert "Highest mean clicked so far: b 6.1%, the control a 5.0%" in shown
    assert "Day 1: 4,000 decisions, 2,000 rewards" in shown
    assert re.search(r"Mean clicked since [\w, ]*\d\d:\d\d UTC: from 6\.00% to 6\.00%", shown)
    assert shown.count("<polyline") >= 2


def test_overview__a_cards_figures__are_of_all_that_its_line_begins_with(admin: Client, two_arms: Start) -> None:
    a, b = two_arms().arms.order_by("position")
    # A busy quarter of an hour, and after that hardly anything: neither the last rate nor its mean.
    for arm, minutes, count, good in ((a, 45, 900, 270.0), (b, 45, 1100, 352.0), (b, 12, 10, 10.0)):
        start = timezone.now() - timedelta(minutes=minutes)
        ArmInterval.objects.create(arm=arm, start=start, decisions=count, rewards=count, reward_total=good)
    shown = admin.get("/admin/").content.decode()
    assert "Decisions <strong>2,010</strong>" in shown
    assert "Mean reward <strong>31.4%</strong>" in shown  # 632 of 2,010
    assert re.search(r"Since [\w, ]*\d\d:\d\d UTC", shown)
    assert "an hour</strong>" not in shown


def test_overview__part__is_told_again_only_when_it_changed(admin: Client) -> None:
    static_model("page", "a")
    endpoint_of("pages", "page@a")
    sign_of_life()
    whole = admin.get("/admin/")
    url = re.search(r'hx-get="([^"]+)"', whole.content.decode())
    assert url is not None
    first = admin.get(url[1])
    # The part says of which version it is, and asks with that for the next.
    assert (
        f'hx-headers="{escape(json.dumps({"If-None-Match": first["ETag"]}, separators=(",", ":")))}"'
        in first.content.decode()
    )
    assert first.content.decode().strip() in whole.content.decode()
    assert b"Nothing needs you" in first.content
    assert b"<html" not in first.content
    assert admin.get(url[1], headers={"If-None-Match": first["ETag"]}).status_code == 304
    QuarantinedEvent.objects.create(stream="s", entry_id="1-0", problem="no event", body=b"x")
    with transaction.atomic():
        audit.record(actor="t", action="x.y")
    changed = admin.get(url[1], headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert b"in quarantine" in changed.content
    assert Client().get(url[1]).status_code == 302
    logged_out = Client().get(url[1], headers={"HX-Request": "true"})
    assert (logged_out.status_code, logged_out["HX-Refresh"], logged_out.content) == (204, "true", b"")


def kept_well(lagging: dict[str, Lag] | None = None) -> None:
    """The learner's sign stays young, however long a busy machine takes: its age is on the page."""
    sign_of_life(lagging)
    client().set(keys().learner, repr(time.time() + 600.0))


def test_browser__overview__changes_by_itself__not_under_a_hand__and_asks_for_a_lost_login(
    browser: Any, live_server: Any, two_arms: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noregret.dashboard.overview.REFRESH_SECONDS", 0.3)
    User.objects.create_superuser("root", password=PASSWORD)
    two_arms()
    kept_well()
    context = browser.new_context()
    tab = context.new_page()
    wrong: list[str] = []
    answers: list[int] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("response", lambda answer: answers.append(answer.status) if "/overview" in answer.url else None)
    tab.goto(f"{live_server.url}/admin/")
    tab.fill("input[name=username]", "root")
    tab.fill("input[name=password]", PASSWORD)
    tab.click("button[type=submit]")
    tab.get_by_text("Nothing needs you").wait_for()
    tab.evaluate("document.querySelector('#needs').dataset.mark = 'the first'")
    until_more(tab, answers, 3)
    assert set(answers) == {304}
    assert tab.get_attribute("#needs", "data-mark") == "the first"

    link = tab.locator("#overview a").first
    link.focus()
    asked_before = len(answers)
    Experiment.objects.update(asked="promote b")
    tab.wait_for_timeout(1_500)
    assert len(answers) <= asked_before + 1  # one may have been under way
    assert tab.get_attribute("#needs", "data-mark") == "the first"
    link.blur()
    tab.locator("[data-cause=recommendation]").wait_for()
    assert tab.get_attribute("#needs", "data-mark") is None
    kept_well({f"p{i}": Lag(12.0, "decisions wait") for i in range(12)})
    tab.get_by_text("Which", exact=True).click()
    tab.evaluate("document.activeElement.blur()")
    Experiment.objects.update(asked="stop")
    tab.locator("[data-cause=recommendation]").get_by_text("can end").wait_for()
    assert tab.get_attribute("#more-behind", "open") is not None  # what was opened stays open
    kept_well()
    Experiment.objects.update(asked="promote b")
    tab.locator("[data-cause=recommendation]").get_by_text("has its winner").wait_for()
    until_more(tab, answers, 3)  # and goes on from there
    assert set(answers[-2:]) == {304}

    assert wrong == []
    context.clear_cookies()
    tab.wait_for_url(re.compile(r"/admin/login/\?next=/admin/$"))
    assert tab.locator("#overview").count() == 0
    tab.fill("input[name=username]", "root")
    tab.fill("input[name=password]", PASSWORD)
    tab.click("button[type=submit]")
    tab.locator("[data-cause=recommendation]").wait_for()
    context.close()


def until_more(tab: Any, answers: list[int], count: int) -> None:
    """Until so many more answers came."""
    wanted = len(answers) + count
    for _ in range(200):
        if len(answers) >= wanted:
            return
        tab.wait_for_timeout(100)
    raise AssertionError(f"{len(answers)} of {wanted} answers came")


def test_line__gaps_stay_gaps__and_one_point_is_no_line() -> None:
    assert line([None, 3.0, None], "s", from_zero=True) is None
    drawn = line([1.0, 2.0, None, 4.0], "s", from_zero=True)
    assert drawn is not None
    assert len(drawn.parts) == 2
    flat = line([5e9, 5e9], "s", from_zero=False)
    assert flat is not None
    assert {point.split(",")[1] for point in flat.parts[0].split()} == {"18.0"}
