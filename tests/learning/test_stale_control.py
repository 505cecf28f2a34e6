"""An experiment that was made, scheduled or paused before the champion changed brings no former
champion back."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from noregret.experiments.errors import Conflict
from noregret.experiments.models import Endpoint, Experiment
from noregret.rollout.endpoints import update_endpoint
from noregret.rollout.transitions import move
from noregret.steering import schedule

from serving.process import process
from tests.conftest import Api, static_model

DECIDE = "/api/v1/endpoints/pages/decide"
Start = Callable[..., Experiment]


@pytest.fixture
def endpoint(two_arms: Start) -> Endpoint:
    """`pages` with the champion page@a; page@b and page@c are registered."""
    move(two_arms(), "stop", actor="t")
    static_model("page", "c", {"text": "C"})
    return Endpoint.objects.get()


def promote(version: str) -> None:
    update_endpoint(Endpoint.objects.get(), champion=f"page@{version}", deadline_ms=None, reason="", actor="t")


def draft(alice: Api, **body: Any) -> str:
    made = alice.post("/api/v1/experiments", {"name": "later", "endpoint": "pages"} | body)
    assert made.status == 201, made.content
    return "/api/v1/experiments/later"


def served(alice: Api, calls: int = 60) -> list[str]:
    process().store.refresh()
    return [alice.post(DECIDE)["model"] for _ in range(calls)]


def control() -> str:
    return str(Experiment.objects.get(name="later").arms.get(is_control=True).model)


def test_draft_canary__champion_changed__its_control_is_the_new_one(alice: Api, endpoint: Endpoint) -> None:
    at = draft(alice, strategy="canary", arms=[{"name": "new", "model": "page@c"}])
    promote("b")
    assert alice.post(f"{at}/start").status == 200
    assert "page@a" not in served(alice)
    assert control() == "page@b"


def test_draft_canary__its_challenger_became_champion__is_refused(alice: Api, endpoint: Endpoint) -> None:
    at = draft(alice, strategy="canary", arms=[{"name": "new", "model": "page@b"}])
    promote("b")
    answer = alice.post(f"{at}/start")
    assert answer.status == 409
    assert "the champion of pages is page@b now, its own challenger" in answer["detail"]
    assert alice.get(at)["status"] == "draft"
    assert set(served(alice, 5)) == {"page@b"}


def test_draft_ab__another_arm_became_champion__takes_the_seat(alice: Api, endpoint: Endpoint) -> None:
    at = draft(alice, strategy="ab", arms=[{"name": n, "model": f"page@{n}"} for n in "ab"])
    promote("b")
    assert alice.post(f"{at}/start").status == 200
    assert control() == "page@b"


def test_draft_ab__no_arm_has_the_champion__is_refused_and_says_what_to_do(alice: Api, endpoint: Endpoint) -> None:
    at = draft(alice, strategy="ab", arms=[{"name": n, "model": f"page@{n}"} for n in "ab"])
    promote("c")
    answer = alice.post(f"{at}/start")
    assert answer.status == 409
    assert "make it anew with an arm for page@c" in answer["detail"]
    assert set(served(alice, 5)) == {"page@c"}


def test_paused__champion_changed__does_not_go_on(alice: Api, endpoint: Endpoint) -> None:
    at = draft(alice, strategy="canary", arms=[{"name": "new", "model": "page@c"}])
    for action in ("start", "pause"):
        assert alice.post(f"{at}/{action}").status == 200
    promote("b")
    answer = alice.post(f"{at}/resume")
    assert answer.status == 409
    assert "compares with page@a" in answer["detail"]
    assert alice.get(at)["status"] == "paused"
    assert set(served(alice, 5)) == {"page@b"}
    promote("a")
    assert alice.post(f"{at}/resume").status == 200


def test_scheduled__challenger_became_champion__stays_a_draft(alice: Api, endpoint: Endpoint) -> None:
    draft(
        alice,
        strategy="canary",
        arms=[{"name": "new", "model": "page@b"}],
        schedule={"start_at": timezone.now().isoformat()},
    )
    promote("b")
    schedule.start_due()
    assert Experiment.objects.get(name="later").status == "draft"


def test_start_and_promotion__side_by_side__never_serve_a_former_champion(alice: Api, endpoint: Endpoint) -> None:
    """The champion is read under the endpoint's lock, not from what the caller held."""
    draft(alice, strategy="shadow", arms=[{"name": "new", "model": "page@b"}])
    held = Experiment.objects.select_related("endpoint__champion").get(name="later")
    promote("b")
    with pytest.raises(Conflict, match="its own challenger"):
        move(held, "start", actor="t")
