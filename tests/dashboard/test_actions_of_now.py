"""An action is meant of the state that its page showed: an old page does nothing, and says so."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from noregret.dashboard.timeline import timeline
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.learning.shown import forecast
from noregret.learning.standing_history import Standing
from noregret.rollout.endpoints import create_endpoint
from noregret.steering.round import learn
from noregret.trail.models import AuditEntry

from tests.conftest import Api, static_model
from tests.learning.past_traffic import decide

Start = Callable[..., Experiment]


def do(experiment: Experiment, action: str) -> str:
    return f"/admin/experiments/experiment/{experiment.pk}/do/{action}"


def opened(admin: Client, address: str) -> dict[str, str]:
    """What a browser would send of this page, with a reason."""
    page = admin.get(address).content.decode()
    found = re.search(r'name="state" value="([^"]*)"', page)
    assert found, page
    return {"state": found[1], "reason": "seen like this", "seen": "on"}


CANARY = {
    "strategy": "canary",
    "arms": [{"name": "new", "model": "page@b"}],
    "canary": {"steps": [0.2, 0.5, 1.0], "bake_seconds": 600, "auto": False},
}


def test_advance__of_a_page_from_before_the_last_step__does_nothing_and_shows_what_is(
    admin: Client, two_arms: Start
) -> None:
    experiment = two_arms(**CANARY)
    assert "step 1 of 3, 20% of the units; the next is 50%" in admin.get(do(experiment, "advance")).content.decode()
    one, other = opened(admin, do(experiment, "advance")), opened(admin, do(experiment, "advance"))
    assert admin.post(do(experiment, "advance"), one).status_code == 302
    late = admin.post(do(experiment, "advance"), other)
    assert late.status_code == 409
    said = late.content.decode()
    assert "Nothing was done: it has changed since this page was opened" in said
    assert "step 2 of 3, 50% of the units; the next is 100%" in said
    assert "seen like this" in said
    assert Experiment.objects.get().canary_step == 1
    state = re.search(r'name="state" value="([^"]*)"', said)
    assert state
    assert admin.post(do(experiment, "advance"), other | {"state": state[1]}).status_code == 302
    assert Experiment.objects.get().canary_step == 2
    refused = admin.get(do(experiment, "advance"), follow=True).content.decode()
    assert "Advance: e can&#x27;t do that now, for it is at its last step." in refused


@pytest.mark.parametrize("action", ["pause", "stop", "promote", "disable", "floor", "add"])
def test_action__of_a_page_from_before_an_arm_was_taken_out__does_nothing(
    admin: Client, two_arms: Start, alice: Api, action: str
) -> None:
    static_model("page", "c", "C")
    experiment = two_arms(arms=[{"name": name, "model": f"page@{name}"} for name in "abc"])
    sent = opened(admin, do(experiment, action)) | {"arm": "b", "floor": "0.1", "name": "d", "model": "page@c"}
    assert alice.post("/api/v1/experiments/e/arms/c/disable").status == 200
    before = AuditEntry.objects.count()
    told = admin.post(do(experiment, action), sent)
    assert told.status_code == 409
    assert "Nothing was done: it has changed" in told.content.decode()
    assert AuditEntry.objects.count() == before
    assert admin.post(do(experiment, action), sent | opened(admin, do(experiment, action))).status_code == 302
    assert AuditEntry.objects.count() > before


def test_shadow__is_not_said_to_route_anybody(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(strategy="shadow", arms=[{"name": "new", "model": "page@b"}])
    Experiment.objects.update(status="draft", started_at=None)
    asked = admin.get(do(experiment, "start")).content.decode()
    assert "Copies of requests to pages go to the challengers of e from now on" in asked
    assert "routed among" not in asked


def test_arm_that_failed__is_put_back_after_a_second_look(admin: Client, two_arms: Start) -> None:
    experiment = two_arms(guardrails=[{"metric": "error_rate", "max": 0.02, "action": "disable_arm"}])
    for _ in range(60):
        decide(experiment, "b", seconds_ago=5, failed=True)
    learn(experiment.endpoint_id)
    assert not Arm.objects.get(name="b").enabled
    sent = opened(admin, do(experiment, "enable") + "?arm=b") | {"arm": "b"}
    del sent["seen"]
    asked = admin.post(do(experiment, "enable"), sent).content.decode()
    assert "b fails in 100% of what it is asked." in asked
    assert "takes it out again: a mended version is another arm" in asked
    assert not Arm.objects.get(name="b").enabled
    assert admin.post(do(experiment, "enable"), sent | {"seen": "on"}).status_code == 302
    assert Arm.objects.get(name="b").enabled


def test_page__after_a_refresh__has_the_buttons_that_it_had(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    told = admin.get(f"/admin/experiments/experiment/{experiment.pk}/figures.json").json()
    assert f"/admin/experiments/experiment/{experiment.pk}/copy" in told["parts"]["actions"]


def test_endpoint__page_of_before_a_change__undoes_nothing(admin: Client, alice: Api) -> None:
    for version in "abc":
        static_model("page", version, version)
    endpoint = create_endpoint(name="pages", champion="page@a", deadline_ms=300, actor="t")
    for version in "bc":
        assert alice("PATCH", "/api/v1/endpoints/pages", {"champion": f"page@{version}"}).status == 200
    address = f"/admin/experiments/endpoint/{endpoint.pk}/do/"
    assert "page@b, the champion before page@c, becomes" in admin.get(address + "rollback").content.decode()
    one, other = opened(admin, address + "rollback"), opened(admin, address + "rollback")
    change = opened(admin, address + "change") | {"champion": str(endpoint_now().champion_id), "deadline_ms": "300"}
    assert admin.post(address + "rollback", one).status_code == 302
    assert alice("PATCH", "/api/v1/endpoints/pages", {"deadline_ms": 500}).status == 200
    for action, sent in (("rollback", other), ("change", change)):
        late = admin.post(address + action, sent)
        assert late.status_code == 409
        assert "Nothing was done: it has changed" in late.content.decode()
        assert "seen like this" in late.content.decode()
    assert 'name="deadline_ms" value="500"' in late.content.decode()
    assert (endpoint_now().champion.model, endpoint_now().deadline_ms) == ("page@b", 500)
    assert admin.post(address + "rollback", opened(admin, address + "rollback")).status_code == 302
    assert endpoint_now().champion.model == "page@a"


def test_endpoint__with_nobody_left_to_go_back_to__is_not_asked_again(admin: Client, alice: Api) -> None:
    for version in "ab":
        static_model("page", version, version)
    endpoint = create_endpoint(name="pages", champion="page@a", deadline_ms=300, actor="t")
    address = f"/admin/experiments/endpoint/{endpoint.pk}/do/rollback"
    assert alice("PATCH", "/api/v1/endpoints/pages", {"champion": "page@b"}).status == 200
    one, other = opened(admin, address), opened(admin, address)
    assert admin.post(address, one).status_code == 302
    late = admin.post(address, other)
    assert late.status_code == 409
    assert "Nothing was done. pages has changed, and does not allow it now." in late.content.decode()
    assert "<form" not in late.content.decode().partition('role="main"')[2].partition("</section>")[0]


def endpoint_now() -> Endpoint:
    return Endpoint.objects.select_related("champion").get()


@pytest.mark.parametrize("action", ["start", "pause", "resume", "stop", "rollback", "promote", "advance", "activate"])
def test_action__of_an_experiment_that_ended__is_not_asked_for(admin: Client, two_arms: Start, action: str) -> None:
    experiment = two_arms()
    admin.post(do(experiment, "rollback"), {"reason": "bad"})
    answer = admin.get(do(experiment, action), follow=True).content.decode()
    assert re.search(r"can&#x27;t do that now, for it is (completed: rolled back|no apprentice)\.", answer)
    assert "Reason, for the audit trail" not in answer


def test_confirmation__of_an_experiment_that_ended_meanwhile__says_how_and_asks_no_more(
    admin: Client, two_arms: Start
) -> None:
    experiment = two_arms()
    pages = {action: opened(admin, do(experiment, action)) for action in ("promote", "pause", "stop", "floor")}
    admin.post(do(experiment, "stop"), pages["stop"] | {"reason": "too costly"})
    for action, sent in pages.items():
        late = admin.post(do(experiment, action), sent | {"reason": "mine", "arm": "b"})
        shown = late.content.decode()
        assert late.status_code == 409
        assert re.search(
            r"Nothing was done\. e ended at \d\d:\d\d UTC\. The experiment was stopped by root: too costly", shown
        )
        assert "Reason, for the audit trail" not in shown
        assert f'href="/admin/experiments/experiment/{experiment.pk}/change/"' in shown
    assert Experiment.objects.get().outcome == "stopped"


def test_arm_actions__of_arms_that_are_not_so__are_not_asked_for(admin: Client, two_arms: Start) -> None:
    experiment = two_arms()
    for action, arm in (("enable", "a"), ("disable", "nix"), ("enable", "")):
        answer = admin.get(do(experiment, action), {"arm": arm}, follow=True).content.decode()
        assert "can&#x27;t do that now" in answer
        assert "Reason, for the audit trail" not in answer


def test_canary_by_hand__unless_said_otherwise__promotes_nobody_by_itself(two_arms: Start, alice: Api) -> None:
    assert two_arms(**CANARY).promotion_.auto is False
    for name, given in (("by-itself", {"canary": {}}), ("told-so", {"promotion": {"auto": True}})):
        document = {**CANARY, "name": name, "endpoint": "pages", **given}
        assert alice.post("/api/v1/experiments", document)["promotion"]["auto"] is True


def test_timeline__without_a_policy__says_of_none_that_it_moved_traffic(two_arms: Start) -> None:
    experiment = two_arms(**CANARY)
    at = experiment.started_at
    assert at is not None
    moves: list[Any] = [Standing(at, 9, {"control": 1.0 - share, "new": share}, {}) for share in (0.5, 0.2)]
    assert timeline(experiment, [], moves) == []
    experiment.policy = {"name": "thompson"}
    late = timeline(experiment, [], [Standing(at, 9, {"control": 0.01, "new": 0.99}, {})])
    assert [one.what for one in late] == ["moved the traffic: control 50% to 1%, new 50% to 99%"]
    assert [one.what for one in timeline(experiment, [], moves)] == [
        "moved the traffic: control 50% to 80%, new 50% to 20%"
    ]


def test_forecast__of_before_an_arm_came__is_not_told_any_more(two_arms: Start) -> None:
    experiment = two_arms()
    told = forecast.of_experiment(experiment)
    assert told.horizon is None
    Arm.objects.filter(experiment=experiment, name="b").update(enabled=False)
    static_model("page", "c", "C")
    assert forecast.known(experiment) != told
