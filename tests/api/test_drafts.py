"""A draft is changed as a whole, by one caller at a time, and never once it has started."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from django.db import connection
from noregret.experiments.errors import Conflict
from noregret.experiments.models import Arm, Experiment
from noregret.learning.models import ArmStatistics
from noregret.rollout.drafts import change_draft, document_of
from noregret.rollout.floors import change_floor
from noregret.rollout.transitions import move
from noregret.steering.schedule import start_due
from noregret.trail.models import AuditEntry

from tests.conftest import Api, endpoint_of, static_model

PATH = "/api/v1/experiments/e"
BANDIT: dict[str, Any] = {
    "name": "e",
    "endpoint": "pages",
    "strategy": "bandit",
    "arms": [{"name": "a", "model": "page@a"}, {"name": "b", "model": "page@b", "payload": {"x": 1}, "cost": 0.5}],
    "policy": {"name": "thompson", "floor": 0.05},
    "holdout": 0.1,
    "guardrails": [{"metric": "error_rate", "max": 0.02, "action": "pause"}],
}
CANARY: dict[str, Any] = {
    "name": "e",
    "endpoint": "pages",
    "strategy": "canary",
    "arms": [{"name": "new", "model": "page@b"}],
    "canary": {"steps": [0.002, 1.0], "bake_seconds": 1.5},
}
AB: dict[str, Any] = {
    "name": "e",
    "endpoint": "pages",
    "strategy": "ab",
    "arms": [{"name": "control", "model": "page@a", "weight": 3}, {"name": "c", "model": "page@c", "weight": 0.5}],
    "reward": {"metric": "revenue", "kind": "continuous", "minimum": -1e9, "maximum": 1e9, "direction": "minimize"},
    "schedule": {"end_at": "2031-03-01T00:00:00+09:00"},
}
SHADOW: dict[str, Any] = {
    "name": "e",
    "endpoint": "pages",
    "strategy": "shadow",
    "arms": [{"name": "b", "model": "page@b"}, {"name": "c", "model": "page@c"}],
    "shadow": {"sample": 0.125},
}
DOCUMENTS = [BANDIT, CANARY, AB, SHADOW]
OF_THE_ROW = {"id", "created_at", "revision"}


@pytest.fixture
def draft(alice: Api) -> Experiment:
    for version in "abc":
        static_model("page", version, version)
    endpoint_of("pages", "page@a")
    assert alice.post("/api/v1/experiments", BANDIT).status == 201
    return Experiment.objects.get()


def told(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in OF_THE_ROW}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["strategy"])
def test_draft__changed__is_what_the_document_makes(alice: Api, draft: Experiment, document: dict[str, Any]) -> None:
    answer = alice("PUT", PATH, document | {"reason": "another way", "revision": 0})
    assert answer.status == 200, answer.content
    changed = alice.get(PATH).body
    assert changed["revision"] == 1
    assert Arm.objects.count() == ArmStatistics.objects.count() == len(changed["arms"])
    entry = AuditEntry.objects.latest("pk")
    assert (entry.actor, entry.action, entry.reason) == ("key:alice", "experiment.changed", "another way")
    assert ("strategy" in entry.details["changed"]) is (document is not BANDIT)
    Experiment.objects.all().delete()
    assert alice.post("/api/v1/experiments", document).status == 201
    assert told(alice.get(PATH).body) == told(changed)
    # It is told as a document that makes the same once more, and starts like any other.
    again = msgspec.to_builtins(document_of(Experiment.objects.get()))
    assert alice("PUT", PATH, again).status == 200
    assert told(alice.get(PATH).body) == told(changed)
    assert AuditEntry.objects.latest("pk").details["changed"] == []
    assert alice.post(f"{PATH}/start").status == 200
    assert (Experiment.objects.get().canary_step == 0) is (document is CANARY)


def test_draft__wrong_or_another__is_refused_and_stays(alice: Api, draft: Experiment) -> None:
    endpoint_of("others", "page@a")
    before = alice.get(PATH).body
    for wrong, field in (
        ({"name": "f"}, "name"),
        ({"endpoint": "others"}, "endpoint"),
        ({"arms": []}, "arms"),
        ({"arms": [{"name": "b", "model": "page@z"}]}, "arms[0].model"),
        ({"holdout": 1}, "holdout"),
        ({"canary": {}}, "canary"),
        ({"revision": -1}, "revision"),
    ):
        answer = alice("PUT", PATH, BANDIT | wrong)
        assert (answer.status, answer.fields()) == (400, [field])
    assert alice("PUT", PATH, BANDIT | {"revision": 1}).status == 409
    assert alice("PUT", "/api/v1/experiments/none", BANDIT | {"name": "none"}).status == 404
    assert alice.get(PATH).body == before
    assert AuditEntry.objects.filter(action="experiment.changed").count() == 0


@pytest.mark.parametrize("actions", [["start"], ["start", "pause"], ["stop"]])
def test_draft__that_is_none_any_more__is_not_changed(alice: Api, draft: Experiment, actions: list[str]) -> None:
    for action in actions:
        assert alice.post(f"{PATH}/{action}").status == 200
    before = alice.get(PATH).body
    assert alice("PUT", PATH, CANARY).status == 409
    assert alice.get(PATH).body == before


def test_draft__changed_in_another_way__is_another_revision(alice: Api, draft: Experiment) -> None:
    """Or a form that was opened before would take it back, and nobody would know."""
    for call, body in (("arms", {"name": "c", "model": "page@c"}), ("arms/c/disable", {}), ("floor", {"floor": 0.02})):
        assert alice.post(f"{PATH}/{call}", body).status in (200, 201), call
    assert alice.get(PATH)["revision"] == 3
    assert alice("PUT", PATH, BANDIT | {"revision": 0}).status == 409
    arms = [*BANDIT["arms"], {"name": "c", "model": "page@c"}]
    changed = alice("PUT", PATH, BANDIT | {"arms": arms, "revision": 3})
    assert [arm["enabled"] for arm in changed["arms"]] == [True, True, False]
    # It is no bandit any more: who read it before has no floor to change.
    seen = Experiment.objects.get()
    assert alice("PUT", PATH, CANARY).status == 200
    with pytest.raises(Conflict, match="only a bandit has a floor"):
        change_floor(seen, 0.1, actor="a")


def at_once(*calls: Any) -> list[Any]:
    def one(call: Any) -> Any:
        try:
            return call()
        except Conflict as refused:
            return refused
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_draft__changed_and_started_at_once__is_one_or_the_other(draft: Experiment) -> None:
    """Whoever comes second sees what the first one did: what runs is one document, whole."""
    document = msgspec.convert(CANARY, type(document_of(draft)))
    seen = Experiment.objects.get()
    changed, started = at_once(
        lambda: change_draft(seen, document, actor="a"), lambda: move(seen, "start", actor="b", revision=None)
    )
    now = Experiment.objects.get()
    assert now.status == "running"
    assert isinstance(started, Experiment)
    is_canary = isinstance(changed, Experiment)
    assert now.revision == int(is_canary)
    assert (now.strategy == "canary", now.canary_step is not None, now.policy is None) == (is_canary,) * 3
    assert [arm.name for arm in now.arms.all()] == (["control", "new"] if is_canary else ["a", "b"])


def test_draft__changed_by_several_who_saw_the_same__is_changed_by_one(draft: Experiment) -> None:
    document = document_of(draft)
    answers = at_once(*[lambda: change_draft(draft, document, actor="a", revision=0)] * 4)
    assert sorted(isinstance(answer, Experiment) for answer in answers) == [False, False, False, True]
    assert Experiment.objects.get().revision == 1
    assert Arm.objects.count() == 2


def test_draft__changed_after_somebody_looked__is_not_started_as_seen(draft: Experiment) -> None:
    seen = Experiment.objects.get()
    change_draft(draft, document_of(draft), actor="a")
    with pytest.raises(Conflict, match="changed meanwhile"):
        move(seen, "start", actor="b", revision=seen.revision)
    assert Experiment.objects.get().status == "draft"


def test_draft__put_off__is_not_started_at_its_former_time(alice: Api, draft: Experiment) -> None:
    assert alice("PUT", PATH, BANDIT | {"schedule": {"start_at": "2020-01-01T00:00:00Z"}}).status == 200
    assert alice("PUT", PATH, BANDIT | {"schedule": {"start_at": "2999-01-01T00:00:00Z"}}).status == 200
    assert start_due() == 0


def test_document__of_an_added_control__follows_the_champion(draft: Experiment, alice: Api) -> None:
    assert alice("PUT", PATH, SHADOW).status == 200
    assert alice("PATCH", "/api/v1/endpoints/pages", {"champion": "page@c"}).status == 200
    row = Experiment.objects.get()
    assert [arm.name for arm in document_of(row).arms] == ["b", "c"]
    again = change_draft(row, document_of(row), actor="a")
    assert again.arms.get(is_control=True).name == "c"
