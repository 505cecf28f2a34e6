"""Unfinished forms of experiments: found again by their person, discarded, and never overwritten
unseen by another tab."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from noregret.dashboard.models import UnfinishedForm
from noregret.experiments.models import Experiment
from noregret.retention import ages

from tests.conftest import Api, endpoint_of, static_model
from tests.dashboard.test_guided_form import ADD, ARM, DRAFT, LIST, TYPED, begin, filled, leave, look


@pytest.fixture
def pages(admin: Client) -> Client:
    for version in "abc":
        static_model("page", version, version)
    endpoint_of("pages", "page@a")
    return admin


def page_of(client: Client, form: str, step: str) -> dict[str, str]:
    """What a browser that has drawn this step sends with it."""
    found = re.search(r'name="page" value="([^"]+)"', look(client, form, step))
    assert found
    return {"page": found[1]}


@pytest.mark.parametrize("way", ["add", "edit", "copy"])
@pytest.mark.parametrize("strategy", ["shadow", "canary", "ab", "bandit"])
def test_step__saved_in_another_tab_meanwhile__is_not_overwritten_unseen(
    pages: Client, alice: Api, strategy: str, way: str
) -> None:
    assert alice.post("/api/v1/experiments", {**DRAFT, "strategy": strategy}).status == 201
    address = ADD if way == "add" else f"{LIST}{Experiment.objects.get().pk}/{way}"
    form = begin(pages, address)
    if way == "add":
        leave(pages, form, "strategy", {"name": "f", "endpoint": "pages", "strategy": strategy})
    one, other = page_of(pages, form, "arms"), page_of(pages, form, "arms")
    assert leave(pages, form, "arms", one | ARM | {"arms[0].model": "page@c"}).status_code == 302
    refused = leave(pages, form, "arms", other | ARM | {"arms[0].name": "mine"}, "reward")
    told = html.unescape(refused.content.decode())
    assert refused.status_code == 409
    assert "this step was saved in another tab" in told
    assert 'value="mine"' in told  # nothing typed is lost
    assert "Arm 1, name: mine here, new there" in told
    assert "Arm 1, model: page@b here, page@c there" in told
    assert 'value="page@c"' in look(pages, form, "arms").partition("<datalist")[0]
    # Whoever has seen that may go on.
    again = re.search(r'name="page" value="([^"]+)"', told)
    assert again
    assert leave(pages, form, "arms", {"page": again[1], **ARM, "arms[0].name": "mine"}).status_code == 302
    assert 'value="mine"' in look(pages, form, "arms")


def test_step__left_twice_by_one_page__is_its_own(pages: Client) -> None:
    """The browser's way back shows the page as it was: what it saved before was its own."""
    form = filled(pages, TYPED)
    page = page_of(pages, form, "arms")
    for name in ("first", "second"):
        assert leave(pages, form, "arms", page | ARM | {"arms[0].name": name}).status_code == 302
    assert 'value="second"' in look(pages, form, "arms")


def test_step__untouched_here_and_saved_elsewhere__stays_as_saved(pages: Client) -> None:
    form = filled(pages, TYPED)
    page, other = page_of(pages, form, "arms"), page_of(pages, form, "arms")
    leave(pages, form, "arms", other | ARM | {"arms[0].name": "theirs"})
    assert leave(pages, form, "arms", page | ARM, "reward").status_code == 302
    assert 'value="theirs"' in look(pages, form, "arms")
    # Other steps are nobody's concern.
    reward = page_of(pages, form, "reward")
    leave(pages, form, "arms", ARM)
    assert leave(pages, form, "reward", reward | {"reward.metric": "m"}).status_code == 302


@pytest.mark.parametrize("to", ["create", "start"])
def test_review__of_what_was_changed_elsewhere__creates_nothing(pages: Client, to: str) -> None:
    form = filled(pages, TYPED)
    page = page_of(pages, form, "review")
    leave(pages, form, "arms", ARM | {"arms[0].model": "page@c"})
    refused = leave(pages, form, "review", page, to)
    assert refused.status_code == 409
    assert "Nothing was created" in refused.content.decode()
    assert "(page@c)" in refused.content.decode()
    assert Experiment.objects.count() == 0
    seen = re.search(r'name="page" value="([^"]+)"', refused.content.decode())
    assert seen
    assert leave(pages, form, "review", {"page": seen[1]}, to).status_code == 302
    assert Experiment.objects.get().arms.get(name="new").model.model == "page@c"


def test_step__left_for_another_strategy__keeps_what_that_one_has_not(pages: Client) -> None:
    form = filled(pages, TYPED | {"policy.floor": "0.05"})
    leave(pages, form, "strategy", {"name": "e", "endpoint": "pages", "strategy": "canary"})
    leave(pages, form, "careful", {"canary.bake_seconds": "60"})
    leave(pages, form, "strategy", {"name": "e", "endpoint": "pages", "strategy": "bandit"})
    assert 'name="policy.floor" value="0.05"' in look(pages, form, "careful")


def test_two_tabs_of_one_form__the_later_is_told_and_keeps_what_was_typed(tab: Any, pages: Client) -> None:
    form = filled(pages, TYPED)
    other = tab.context.new_page()
    for page in (tab, other):
        page.goto(f"{form}&step=arms")
    tab.fill("[name='arms[0].name']", "first")
    tab.click("button:has-text('Next:')")
    tab.locator("[aria-current=step]:has-text('Reward')").wait_for()
    # Back, as a browser does it, and on again: it is one's own.
    tab.go_back()
    tab.locator("[aria-current=step]:has-text('Arms')").wait_for()
    tab.fill("[name='arms[0].name']", "second")
    tab.click("button:has-text('Next:')")
    tab.locator("[aria-current=step]:has-text('Reward')").wait_for()
    other.fill("[name='arms[0].name']", "theirs")
    other.click("button:has-text('Next:')")
    assert "Arm 1, name: theirs here, second there" in other.inner_text(".nr-objection")
    assert other.input_value("[name='arms[0].name']") == "theirs"
    other.click("text=take what was saved there")
    other.locator(".nr-objection").wait_for(state="detached")
    assert other.input_value("[name='arms[0].name']") == "second"


def test_unfinished_forms__are_listed_gone_on_with_and_discarded(pages: Client, alice: Api) -> None:
    assert "Your unfinished forms" not in pages.get(LIST).content.decode()
    begin(pages)  # opened, and nothing typed
    assert "Your unfinished forms" not in pages.get(LIST).content.decode()
    form = filled(pages, TYPED)
    assert alice.post("/api/v1/experiments", {**DRAFT, "name": "d"}).status == 201
    change = begin(pages, f"{LIST}{Experiment.objects.get().pk}/edit")
    leave(pages, change, "strategy", {"strategy": "canary"})
    for page in (html.unescape(pages.get(LIST).content.decode()), look(pages, begin(pages), "strategy")):
        assert page.index("d, a change of the draft") < page.index("<strong>e</strong>")
        assert "Bandit · pages · last at How careful · changed" in page
        assert "Canary · pages · last at Strategy · changed" in page
        assert f"{form}&step=careful" in page
    assert "Your unfinished forms" not in look(pages, form, "strategy")  # in the middle of one
    discard = f"{LIST}discard{form.removeprefix(ADD)}"
    assert "can't be had back" in html.unescape(pages.get(discard).content.decode())
    assert UnfinishedForm.objects.count() == 4
    assert "form of e was discarded" in pages.post(discard, follow=True).content.decode()
    assert UnfinishedForm.objects.count() == 3
    gone = html.unescape(pages.get(f"{form}&step=arms", follow=True).content.decode())
    assert "was sent or discarded, or it is older than a week" in gone
    # What is typed in a tab of it begins a new form.
    kept = leave(pages, form, "arms", ARM)
    assert 'value="page@b"' in look(pages, kept.headers["Location"].partition("&step=")[0], "arms")
    UnfinishedForm.objects.update(changed_at=timezone.now() - timedelta(days=8))
    assert "Your unfinished forms" not in pages.get(LIST).content.decode()
    ages.prune(timezone.now())
    assert UnfinishedForm.objects.count() == 0
