"""The guided form: its steps keep what was typed, tell what is wrong where it stands, say what will
happen, and make, copy and change experiments for those who may."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from noregret.dashboard.experiment_form import STEPS
from noregret.dashboard.models import UnfinishedForm
from noregret.experiments.document import Reward
from noregret.experiments.models import Baseline, Endpoint, Experiment
from noregret.learning.models import BaselineInterval
from noregret.rollout.endpoints import create_endpoint
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry

from tests.conftest import Api, static_model

LIST = "/admin/experiments/experiment/"
ADD = f"{LIST}add/"
TYPED = {
    "name": "e",
    "endpoint": "pages",
    "strategy": "bandit",
    "arms[0].name": "new",
    "arms[0].model": "page@b",
}


@pytest.fixture
def pages(admin: Client) -> Client:
    for version in "abc":
        static_model("page", version, version)
    create_endpoint(
        name="pages", champion="page@a", deadline_ms=300, actor="t", reward=Reward(metric="clicks", default=0.0)
    )
    return admin


def begin(client: Client, address: str = ADD) -> str:
    """A new form; its address without a step."""
    answer = client.get(address)
    assert answer.status_code == 302, answer.content
    return str(answer.headers["Location"].partition("&step=")[0])


def leave(client: Client, form: str, step: str, typed: dict[str, str], to: str = "next") -> Any:
    return client.post(f"{form}&step={step}", typed | {"step": step, "to": to})


def look(client: Client, form: str, step: str) -> str:
    return html.unescape(client.get(f"{form}&step={step}").content.decode())


def filled(client: Client, typed: dict[str, str], address: str = ADD) -> str:
    """A form with this typed, each in its step; its address."""
    form = begin(client, address)
    by_step = {
        "strategy": ("name", "endpoint", "strategy"),
        "arms": ("arms",),
        "reward": ("reward",),
        "careful": ("policy", "canary", "shadow", "promotion", "suppose"),
    }
    for step, members in by_step.items():
        mine = {name: value for name, value in typed.items() if re.split(r"[.\[]", name)[0] in members}
        leave(client, form, step, mine, "review")
    return form


def traffic(per_hour: int, rewards: int) -> None:
    """What the champion has shown in the last days."""
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    Baseline.objects.update(begun_at=hour - timedelta(days=3))
    baseline = Baseline.objects.get()
    BaselineInterval.objects.bulk_create(
        BaselineInterval(
            baseline=baseline,
            start=hour - timedelta(hours=i),
            decisions=per_hour,
            rewards=rewards,
            reward_total=rewards,
        )
        for i in range(2, 72)
    )


def test_steps__left_and_come_back_to__keep_what_was_typed(pages: Client) -> None:
    form = begin(pages)
    assert 'value="pages"' in look(pages, form, "strategy")  # the only endpoint
    page = pages.get(f"/admin/experiments/endpoint/{Endpoint.objects.get().pk}/change/").content.decode()
    assert f"{ADD}?endpoint=pages" in page
    answer = leave(pages, form, "strategy", {"name": "e", "endpoint": "pages", "strategy": "ab"})
    assert answer.headers["Location"].endswith("&step=arms")
    # Back, with what is unfinished: it is kept, and nothing is said of it.
    assert leave(pages, form, "arms", {"arms[1].name": "B A D"}, "strategy").status_code == 302
    shown = look(pages, form, "arms")
    assert 'value="B A D"' in shown
    assert 'role="alert"' not in shown
    assert "arms[1].weight" in shown
    # On, with the same: it is told where it stands, and nothing goes on.
    told = leave(pages, form, "arms", {"arms[1].name": "B A D", "arms[1].model": "page@z"})
    assert told.status_code == 400
    assert re.findall(r'href="#(id_[^"]+)"', told.content.decode()) == ["id_arms[1].name"]
    # Another strategy: what it has not is not asked for any more, and its own is as it was.
    leave(pages, form, "arms", {"arms[1].name": "new", "arms[1].model": "page@b", "arms[1].weight": "2"}, "strategy")
    leave(pages, form, "strategy", {"name": "e", "endpoint": "pages", "strategy": "canary"})
    assert "weight" not in look(pages, form, "arms")
    leave(pages, form, "strategy", {"name": "e", "endpoint": "pages", "strategy": "ab"})
    assert 'name="arms[1].weight" value="2"' in look(pages, form, "arms")
    assert Experiment.objects.count() == 0


ARM = {"arms[0].name": "new", "arms[0].model": "page@b"}


def test_steps__not_opened_yet__are_not_told_wrong(pages: Client) -> None:
    told = leave(pages, begin(pages), "strategy", {"name": "B A D", "endpoint": "pages", "strategy": "bandit"})
    page = told.content.decode()
    assert 'Strategy</span><span class="nr-sr">: something is wrong' in page
    assert 'Arms</span><span class="nr-sr">: not filled in yet' in page
    form = begin(pages)
    leave(pages, form, "arms", {}, "review")
    assert 'Arms</span><span class="nr-sr">: something is wrong' in look(pages, form, "review")
    assert "Arms</a>: at least one is required" in look(pages, form, "review")


def test_review__what_is_wrong_anywhere__leads_to_its_step(pages: Client) -> None:
    form = filled(pages, TYPED | {"arms[0].model": "page@z"})
    review = look(pages, form, "review")
    assert "no model version page@z is registered" in review
    assert "Create draft" not in review
    link = re.search(r'href="(\?[^"]+)#id_arms\[0\].model"', review)
    assert link
    step = pages.get(ADD + link[1]).content.decode()
    assert 'aria-current="step"><span class="nr-stage-number">2' in step
    beside = step.partition('id="id_arms[0].model"')[2].partition("<label")[0]
    assert 'role="alert">no model version page@z' in beside


def test_review__says_what_will_happen_and_the_same_as_code(pages: Client, alice: Api) -> None:
    form = filled(pages, TYPED | {"policy.name": "top-two-thompson", "policy.floor": "0.05"})
    review = look(pages, form, "review")
    for said in (
        "<strong>control</strong> (page@a, control), <strong>new</strong> (page@b)",
        "traffic goes to the leader and its closest rivals",
        "Every arm keeps at least 5.0% of the traffic",
        "The reward is the metric clicks: 0 or 1; more is better.",
        "It starts when somebody starts it.",
        "curl http://testserver/api/v1/experiments",
        "client.create_experiment(document)",
    ):
        assert said in review, said
    python = re.search(r"document = (\{.*?\}\})\nwith", review, re.DOTALL)
    assert python
    by_api = alice.post("/api/v1/experiments", eval(python[1]) | {"name": "api"})  # noqa: S307  # what the page offers
    assert by_api.status == 201
    sent = leave(pages, form, "review", {}, "create")
    made = Experiment.objects.get(name="e")
    assert sent.headers["Location"] == f"/admin/experiments/experiment/{made.pk}/change/"
    assert alice.get("/api/v1/experiments/e")["policy"] == by_api["policy"]
    # It was sent: going back to it, or sending it again, makes nothing more.
    assert leave(pages, form, "review", {}, "create").status_code in (302, 400)
    assert pages.get(f"{form}&step=review", follow=True).status_code == 200
    assert Experiment.objects.count() == 2


def test_draft__created_to_be_started__is_asked_for_its_reason(pages: Client) -> None:
    sent = leave(pages, filled(pages, TYPED), "review", {}, "start")
    made = Experiment.objects.get()
    assert sent.headers["Location"] == f"/admin/experiments/experiment/{made.pk}/do/start"
    assert made.status == "draft"


def careful(client: Client, **typed: str) -> str:
    return look(
        client, filled(client, TYPED | {name.replace("__", "."): value for name, value in typed.items()}), "careful"
    )


def test_expectation__at_the_endpoints_own_traffic__is_told_beside_each_choice(pages: Client) -> None:
    traffic(500, 25)
    shown = careful(pages)
    assert re.search(r"At about 12,000 requests a day with 5 % now, if one challenger comes to 5.5 %", shown)
    notes = re.findall(r'class="nr-note">([^<]+)<', shown)
    assert len(notes) == 3
    assert all(note.startswith("Decides in ") and "costs about" in note for note in notes)
    days = re.search(r"about (\d+) days", notes[2])
    assert days
    # What `plan` tells for the same: 73,000 decisions, between its 10th and 90th percentile.
    assert 3 <= int(days[1]) <= 20
    sooner = re.findall(r'class="nr-note">([^<]+)<', careful(pages, suppose__lift="0.5"))
    assert " h" in sooner[2]
    split = careful(pages, strategy="ab")
    assert re.search(r"About \d+ days \(", split)
    # Nothing is promoted before its minima, however surely it will be shown.
    assert "Decides in about 40 days, and" in careful(
        pages, promotion__min_seconds=str(40 * 86_400), suppose__lift="0.5"
    )
    assert "Decides in about 60 days, and" in careful(pages, promotion__min_rewards="360000", suppose__lift="0.5")
    no_default = {"reward__metric": "clicks", "suppose__lift": "0.5"}
    # A decision counts once its window is closed, whatever its silence means.
    hour, week = (
        re.findall(r"Decides in about (\d+) days", careful(pages, **no_default, reward__window_seconds=str(seconds)))[0]
        for seconds in (3600, 7 * 86_400)
    )
    assert int(week) - int(hour) in (6, 7, 8)
    unequal = {"arms[0].name": "a", "arms[0].model": "page@a", "arms[0].weight": "0.9"}
    unequal |= {"arms[1].name": "new", "arms[1].model": "page@b", "arms[1].weight": "0.1"}
    form = filled(pages, TYPED | unequal | {"strategy": "ab", "promotion.min_rewards": "36000", "suppose.lift": "0.5"})
    shown = look(pages, form, "careful")
    assert "About 30 days" in shown, shown[shown.index("nr-expected") :][:900]
    assert "its 4 steps take about" in careful(pages, strategy="canary")
    assert "copies a day" in careful(pages, strategy="shadow")


def test_expectation__between_two_looks__is_the_same(pages: Client) -> None:
    traffic(500, 25)
    first = re.findall(r'class="nr-note">([^<]+)<', careful(pages))
    row = BaselineInterval.objects.latest("start")
    BaselineInterval.objects.filter(pk=row.pk).update(decisions=507, rewards=26, reward_total=25)
    assert re.findall(r'class="nr-note">([^<]+)<', careful(pages)) == first
    assert "60 runs are simulated" in careful(pages)
    by_hand = careful(pages, promotion__auto="false")
    assert re.findall(r'class="nr-note">([^<]+)<', by_hand) == first
    assert "the days are until the evidence is enough, and a person decides then" in by_hand


def test_expectation__traffic_beside_experiments_alone__is_told_as_that(pages: Client, alice: Api) -> None:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    Baseline.objects.update(begun_at=hour)
    BaselineInterval.objects.create(baseline=Baseline.objects.get(), start=hour, decisions=600, rewards=0)
    document = {"name": "before", "endpoint": "pages", "strategy": "ab", "arms": [{"name": "b", "model": "page@b"}]}
    assert alice.post("/api/v1/experiments", document).status == 201
    Experiment.objects.update(
        status="completed", outcome="stopped", started_at=hour, ended_at=hour + timedelta(seconds=1)
    )
    assert "but not for a minute of an hour in which no experiment was under way" in careful(pages)


def test_expectation__where_nothing_is_known__says_what_to_do_and_no_number(pages: Client, alice: Api) -> None:
    assert "has shown no traffic without an experiment" in careful(pages)
    alice.post("/api/v1/endpoints/pages/decide", {"unit": "u"})
    shown = careful(pages)
    assert "has shown no traffic" not in shown, "what waits is no evidence of silence"
    assert "not all that came to pages is learned" in shown
    assert "1 decision waits to be learned, and the learner gives no sign. Look again" in shown
    learn(Endpoint.objects.get().pk)
    traffic(500, 0)
    assert "has hardly any feedback on its champion's decisions" in careful(pages)
    BaselineInterval.objects.update(rewards=25)
    assert "every reward of the champion of pages was the same" in careful(pages)
    BaselineInterval.objects.update(rewards=25, reward_total=25)
    assert "Give the endpoint this reward" in careful(pages, reward__metric="sales")
    bounds = {"reward__minimum": "-1000000000", "reward__maximum": "1000000000.5"}
    for typed, said in (
        ({"reward__metric": "clicks", "reward__kind": "continuous", **bounds}, "rewards of 0 and 1 alone"),
        ({"policy__name": "kl-ucb"}, "manage.py plan makes it"),
        ({"policy__params": '{"discount": 0.99}', "promotion__auto": "true"}, "depends on the request or on the time"),
    ):
        assert said in careful(pages, **typed), typed
    assert "once the steps before are filled in" in look(pages, begin(pages), "careful")
    assert re.search(r"once this can be used: [^:<]*: [^<]*0\.5", careful(pages, promotion__alpha="0.6"))


def test_copy__of_an_experiment__is_another_with_the_same_document(pages: Client, alice: Api) -> None:
    document = {
        "name": "e-9",
        "endpoint": "pages",
        "strategy": "bandit",
        "arms": [{"name": "new", "model": "page@b", "payload": {"a": [1, None]}, "cost": 0.002}],
        "policy": {"name": "epsilon-greedy", "params": {"epsilon": 0.002}},
        "context": {"fields": [{"name": "country", "type": "category", "values": ["KR", "a, b"]}]},
        "guardrails": [{"metric": "error_rate", "max": 0.002, "action": "pause"}],
        "schedule": {"start_at": "2031-01-31T12:00:30+09:00", "max_seconds": 86400.5},
        "holdout": 0.1,
        "edge_evidence": False,
    }
    assert alice.post("/api/v1/experiments", document).status == 201
    original = Experiment.objects.get()
    shown = pages.get(f"/admin/experiments/experiment/{original.pk}/change/").content.decode()
    assert f"/admin/experiments/experiment/{original.pk}/copy" in shown
    form = begin(pages, f"/admin/experiments/experiment/{original.pk}/copy")
    assert 'value="e-10"' in look(pages, form, "strategy")
    assert leave(pages, form, "review", {}, "create").status_code == 302
    first, second = (alice.get(f"/api/v1/experiments/{name}").body for name in ("e-9", "e-10"))
    assert second["schedule"] == first["schedule"] | {"start_at": None}
    ours = {"id", "name", "created_at", "schedule"}
    assert {name: first[name] for name in first if name not in ours} == {
        name: second[name] for name in second if name not in ours
    }


def test_copy__of_what_was_promoted__calls_no_other_arm_the_control(pages: Client, alice: Api) -> None:
    arms = [{"name": "control", "model": "page@a", "weight": 0.5}, {"name": "new", "model": "page@b", "weight": 0.5}]
    made = {"name": "e", "endpoint": "pages", "strategy": "ab", "arms": arms}
    assert alice.post("/api/v1/experiments", made).status == 201
    assert alice.post("/api/v1/experiments/e/start", {}).status == 200
    assert alice.post("/api/v1/experiments/e/promote", {"arm": "new"}).status == 200
    form = begin(pages, f"/admin/experiments/experiment/{Experiment.objects.get().pk}/copy")
    answer = leave(pages, form, "review", {}, "create")
    assert answer.status_code == 302, re.findall(r'nr-error"[^>]*>([^<]*)', answer.content.decode())
    copied = Experiment.objects.get(name="e-2")
    told = [(arm.name, arm.model.model, arm.is_control) for arm in copied.arms.order_by("position")]
    assert sorted(told) == [("former", "page@a", False), ("new", "page@b", True)]


def test_draft__changed_elsewhere_meanwhile__says_so_on_every_step(pages: Client, alice: Api) -> None:
    assert alice.post("/api/v1/experiments", DRAFT).status == 201
    form = begin(pages, f"/admin/experiments/experiment/{Experiment.objects.get().pk}/edit")
    said = "was changed since this form was opened"
    assert said not in look(pages, form, "review")
    Experiment.objects.update(revision=1)
    for step in ("arms", "review"):
        assert said in look(pages, form, step)


def test_draft__changed_in_the_form__is_changed_once(pages: Client, alice: Api) -> None:
    assert alice.post("/api/v1/experiments", {**DRAFT, "guardrails": GUARDRAILS}).status == 201
    draft = Experiment.objects.get()
    edit = f"/admin/experiments/experiment/{draft.pk}/edit"
    assert edit in pages.get(f"/admin/experiments/experiment/{draft.pk}/change/").content.decode()
    form, late = begin(pages, edit), begin(pages, edit)
    assert "readonly" in look(pages, form, "strategy")
    leave(pages, form, "strategy", {"name": "f", "endpoint": "other", "strategy": "canary"}, "review")
    assert "-X PUT http://testserver/api/v1/experiments/e" in look(pages, form, "review")
    assert leave(pages, form, "review", {}, "create").status_code == 302
    changed = Experiment.objects.get()
    assert (changed.name, changed.endpoint.name, changed.strategy, changed.revision) == ("e", "pages", "canary", 1)
    assert changed.guardrails[0]["max"] == 0.002
    entry = AuditEntry.objects.latest("pk")
    assert (entry.actor, entry.action, entry.details["changed"][0]) == ("root", "experiment.changed", "strategy")
    # Whoever saw it as it was before is told so, and changes nothing.
    refused = leave(pages, late, "review", {}, "create")
    assert refused.status_code == 400
    assert b"e was changed meanwhile" in refused.content
    assert Experiment.objects.get().revision == 1
    Experiment.objects.update(status="running")
    assert b"only a draft can be changed" in pages.get(edit, follow=True).content


DRAFT = {"name": "e", "endpoint": "pages", "strategy": "bandit", "arms": [{"name": "new", "model": "page@b"}]}
GUARDRAILS = [{"metric": "error_rate", "max": 0.002, "action": "pause"}]


def test_form__of_another_person_or_without_permission__is_not_opened(
    pages: Client, alice: Api, permissions: None
) -> None:
    form = filled(pages, TYPED)
    token = re.search(r"form=(\w+)", form)[1]  # type: ignore[index]  # it is there
    assert UnfinishedForm.objects.filter(pk=token).exists()
    viewer, maker = Client(), Client()
    for client, name, rights in ((viewer, "v", ["view"]), (maker, "m", ["view", "add"])):
        person = User.objects.create_user(name, is_staff=True)
        codes = [f"{right}_experiment" for right in rights]
        person.user_permissions.set(Permission.objects.filter(codename__in=codes))
        client.force_login(person)
    assert alice.post("/api/v1/experiments", {**DRAFT, "name": "d"}).status == 201
    row = f"/admin/experiments/experiment/{Experiment.objects.get().pk}"
    for address in (ADD, form, f"{row}/copy", f"{row}/edit"):
        assert viewer.get(address).status_code == 403, address
    assert leave(viewer, form, "review", {}, "create").status_code == 403
    assert maker.get(f"{row}/edit").status_code == 403
    assert maker.get(f"{row}/copy").status_code == 302
    # Another's form is not opened, and it is said what to do; what is typed there is one's own.
    told = maker.get(f"{form}&step=arms")
    assert told.status_code == 403
    assert "Ask that person to create the draft" in told.content.decode()
    assert "page@b" not in told.content.decode()
    typed = leave(maker, form, "strategy", {"name": "mine", "strategy": "ab"})
    assert token not in typed.headers["Location"]
    begun = look(maker, typed.headers["Location"].partition("&step=")[0], "strategy")
    assert 'value="mine"' in begun
    assert "a new one, with what you had typed" in begun
    assert maker.get(f"{LIST}discard?form={token}").status_code == 404
    assert maker.post(f"{LIST}discard?form={token}").status_code == 404
    assert UnfinishedForm.objects.filter(pk=token).exists()
    assert "page@b" not in html.unescape(maker.get(LIST).content.decode())
    shown = look(maker, filled(maker, TYPED), "review")
    assert ("Create draft" in shown, "Create and start" in shown) == (True, False)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.soak)])
def test_steps__each__are_accessible_and_fit_a_phone(tab: Any, scheme: str) -> None:
    traffic(500, 25)
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    tab.goto(ADD)
    # The keyboard's first stop leads past the menu.
    tab.keyboard.press("Tab")
    skip = tab.locator(".nr-skip")
    assert skip.evaluate("link => link === document.activeElement && getComputedStyle(link).clipPath === 'none'")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('#content') !== null")
    # Enter goes on, and tells what is missing.
    tab.press("input[name=name]", "Enter")
    tab.locator(".nr-choice .nr-error").wait_for()
    tab.fill("input[name=name]", "e")
    tab.check("input[value=bandit]")
    problems: list[str] = []
    for step in STEPS:
        tab.locator(f"[aria-current=step]:has-text('{step.title}')").wait_for()
        if step.name == "arms":
            tab.fill("[name='arms[0].name']", "new")
            tab.fill("[name='arms[0].model']", "page@b")
        if step.name == "guardrails":
            tab.click("button:has-text('Add guardrail')")
        problems += [
            f"{step.name}: {found['id']} at {[node['target'] for node in found['nodes']]}"
            for found in Axe().run(tab).response["violations"]
            if found["impact"] in {"serious", "critical"}
        ]
        tab.set_viewport_size({"width": 390, "height": 844})
        if tab.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            problems.append(f"{step.name}: wider than a phone")
        tab.set_viewport_size({"width": 1280, "height": 900})
        if step.name == "guardrails":
            tab.click("button:has-text('Remove')")
        if step.name != "review":
            tab.click("button:has-text('Next:')")
    assert problems == []
    assert Endpoint.objects.count() == 1
