"""Each strategy as a person has it: made by the form alone, started, given traffic, watched,
decided and taken back, all by the buttons of the pages."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from noregret.experiments.models import Endpoint, Experiment
from noregret.learning import shadows
from noregret.redis_client import client, keys
from noregret.steering.round import learn

from tests.conftest import Api, endpoint_of, python_model

REQUESTS = 30
SOAK = pytest.mark.soak
"""One strategy is tried with each run of the suite; the others take as long."""


@pytest.fixture
def tab(browser: Any, live_server: Any, platform: None) -> Iterator[Any]:
    """Somebody who may everything is logged in; a model is champion, and another is there."""
    person = Client()
    person.force_login(User.objects.create_superuser("root"))
    session = person.cookies[django_settings.SESSION_COOKIE_NAME].value
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=live_server.url)
    context.set_default_timeout(20_000)
    context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    endpoint_of("pages", python_model("m", "old", "nearly_sums"))
    python_model("m", "new", "sums")
    yield context.new_page()
    context.close()


def onward(tab: Any) -> None:
    """To the next step."""
    title = tab.inner_text("button:has-text('Next:')").partition(": ")[2]
    tab.click("button:has-text('Next:')")
    tab.locator(f"[aria-current=step]:has-text('{title}')").wait_for()


def make(tab: Any, strategy: str, typed: dict[str, str]) -> Experiment:
    """By the form, step after step, and started; `typed` into whatever step has the input."""
    tab.goto("/admin/experiments/experiment/add/")
    tab.fill("input[name=name]", "e")
    tab.check(f"input[value={strategy}]")
    onward(tab)
    tab.fill("[name='arms[0].name']", "new")
    tab.fill("[name='arms[0].model']", "m@new")
    while True:
        for name in [name for name in typed if tab.locator(f"[name='{name}']").count()]:
            value = typed.pop(name)
            tab.locator(f"[name='{name}']").first.evaluate(
                "input => { const part = input.closest('details'); if (part) part.open = true; }"
            )
            kind = tab.locator(f"[name='{name}']").first.evaluate("input => input.type")
            if kind == "radio":
                tab.check(f"[name='{name}'][value='{value}']")
            elif kind.startswith("select"):
                tab.select_option(f"[name='{name}']", value)
            else:
                tab.fill(f"[name='{name}']", value)
        if not tab.locator("button:has-text('Next:')").count():
            break
        onward(tab)
    assert typed == {}
    assert "m@old, control" in tab.inner_text("#content")
    tab.click("text=Create and start")
    confirm(tab, "Start")
    assert tab.inner_text(".nr-badge") == "Running"
    return Experiment.objects.select_related("endpoint").get()


def confirm(tab: Any, button: str, arm: str = "") -> None:
    """Choose the arm, say why, look again where it is asked for, and do it."""
    if arm:
        tab.select_option("select[name=arm]", arm)
    tab.fill("textarea[name=reason]", "as planned")
    tab.click(f"form button:has-text('{button}')")
    if tab.locator("input[name=seen]").count():
        tab.check("input[name=seen]")
        tab.click(f"form button:has-text('{button}')")


def traffic(alice: Api, experiment: Experiment) -> None:
    """Requests, answers on half of them, and a round of the learner."""
    for i in range(REQUESTS):
        asked = {"inputs": [[float(i), 0.0]], "unit": f"u{i}"}
        answer = alice.post("/api/v1/endpoints/pages/predict", asked)
        assert answer.status == 200
        if i % 2:
            sent = alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "value": i % 3 == 0})
            assert sent.status == 202
    learn(experiment.endpoint_id)


def moves(tab: Any, decisions: int) -> None:
    """The page that stands open tells the traffic by itself."""
    told = "name => document.querySelector(`[data-fact=${name}]`).textContent"
    tab.wait_for_function(f"({told})('decisions') === '{decisions}' && ({told})('rewards').includes('50%')")


def promote(tab: Any) -> None:
    tab.click("nav a:has-text('Promote')")
    confirm(tab, "Promote", "new")
    assert tab.inner_text(".nr-badge") == "Completed: promoted"
    assert Endpoint.objects.get().champion.model == "m@new"


def take_back(tab: Any) -> None:
    """The promotion, on the endpoint's page."""
    tab.click(".nr-name a:has-text('pages')")
    tab.click("a:has-text('Roll back')")
    confirm(tab, "Roll back")
    tab.get_by_text("m@old").first.wait_for()
    assert Endpoint.objects.get().champion.model == "m@old"


def test_bandit__by_the_form_alone__runs_is_promoted_and_taken_back(tab: Any, alice: Api) -> None:
    made = make(tab, "bandit", {"policy.name": "top-two-thompson", "holdout": "0.1", "promotion.auto": "false"})
    assert (made.policy_ and made.policy_.name, made.holdout, made.promotion_.auto) == ("top-two-thompson", 0.1, False)
    traffic(alice, made)
    moves(tab, REQUESTS)
    promote(tab)
    take_back(tab)


def test_single_deployment__by_the_form_alone__answers_its_champion_changes_and_is_taken_back(
    tab: Any, alice: Api
) -> None:
    tab.goto("/admin/experiments/endpoint/add/")
    tab.fill("input[name=name]", "alone")
    tab.fill("[name=champion]", "m@old")
    tab.click("button:has-text('Create')")
    tab.locator(".nr-badge, .nr-name, h2").first.wait_for()
    assert Endpoint.objects.get(name="alone").champion.model == "m@old"
    for i in range(REQUESTS):
        answer = alice.post("/api/v1/endpoints/alone/predict", {"inputs": [[float(i), 0.0]]})
        assert (answer.status, answer["model"], answer["strategy"]) == (200, "m@old", "single")
        assert alice.post("/api/v1/feedback", {"decision_id": answer["decision_id"], "value": 1}).status == 202
    learn(Endpoint.objects.get(name="alone").pk)
    tab.goto("/admin/")
    tab.locator(f"article:has(a:text-is('alone')):has(strong:text-is('{REQUESTS}'))").wait_for()
    tab.click("a:text-is('alone')")
    tab.click("a:has-text('Change champion')")
    tab.select_option("select[name=champion]", label="m@new")
    confirm(tab, "Change")
    assert Endpoint.objects.get(name="alone").champion.model == "m@new"
    assert alice.post("/api/v1/endpoints/alone/predict", {"inputs": [[1.0, 0.0]]})["model"] == "m@new"
    tab.click("a:has-text('Roll back')")
    confirm(tab, "Roll back")
    assert Endpoint.objects.get(name="alone").champion.model == "m@old"


@SOAK
def test_split__by_the_form_alone__runs_is_promoted_and_taken_back(tab: Any, alice: Api) -> None:
    made = make(tab, "ab", {"schedule.max_seconds": "86400"})
    traffic(alice, made)
    moves(tab, REQUESTS)
    tab.get_by_role("heading", name="Difference to the control").wait_for()
    promote(tab)
    take_back(tab)


@SOAK
def test_canary__by_the_form_alone__advances_is_promoted_and_taken_back(tab: Any, alice: Api) -> None:
    made = make(tab, "canary", {"canary.steps": "0.25\n1", "canary.bake_seconds": "600"})
    traffic(alice, made)
    moves(tab, REQUESTS)
    tab.click("nav a:has-text('Advance')")
    confirm(tab, "Advance")
    tab.locator("#ladder [aria-current=step]:has-text('100%')").wait_for()
    promote(tab)
    take_back(tab)


@SOAK
def test_shadow__by_the_form_alone__compares_in_silence_is_promoted_and_taken_back(tab: Any, alice: Api) -> None:
    made = make(tab, "shadow", {"shadow.sample": "1"})
    traffic(alice, made)
    for _ in range(200):
        if client().xlen(keys().shadows("pages")) >= REQUESTS:
            break
        tab.wait_for_timeout(50)
    assert shadows.mirror(made) == REQUESTS
    learn(made.endpoint_id)
    moves(tab, REQUESTS)
    tab.locator("#challengers td:has-text('50.0%')").first.wait_for()  # they agree on every other
    promote(tab)
    take_back(tab)


@SOAK
def test_apprentice__by_the_form_alone__serves_once_it_is_activated(tab: Any, alice: Api) -> None:
    made = make(tab, "bandit", {"apprentice": "true", "policy.name": "uniform"})
    traffic(alice, made)
    moves(tab, REQUESTS)
    assert Experiment.objects.get().apprentice
    tab.click("nav a:has-text('Activate')")
    confirm(tab, "Activate")
    assert not Experiment.objects.get().apprentice
    tab.click("nav a:has-text('Roll back')")
    confirm(tab, "Roll back")
    assert tab.inner_text(".nr-badge") == "Completed: rolled back"
    assert Endpoint.objects.get().champion.model == "m@old"
