"""Decisions that are made with `activate: false`: nothing is learned of them until they are said to
have been shown, and then all that is learned of any other."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.db import connections
from django.utils import timezone
from noregret.access.keys import create_key
from noregret.experiments.models import Experiment
from noregret.learning import baselines
from noregret.learning.models import BaselineInterval
from noregret.learning.rebuild import rebuild
from noregret.learning.waiting import any_to_take
from noregret.retention import ages
from noregret.retention.forget import forget
from noregret.steering import pending
from noregret.steering.round import learn

from serving import process as processes
from serving.ledger import events
from serving.models import Decision, FirstVisit, Reward, WaitingDecision
from serving.process import process
from serving.tokens import Signer, Token, new_id
from tests.conftest import ACTOR, Api, endpoint_of, python_model, start_experiment
from tests.learning.told import results

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Experiment]
DECIDE, PREDICT = (f"/api/v1/endpoints/pages/{call}" for call in ("decide", "predict"))
SILENT = {"kind": "binary", "window_seconds": 1, "default": 0}


def held_back(api: Api, unit: str | None = None, **asked: Any) -> str:
    answer = api.post(DECIDE, {"unit": unit, "activate": False, **asked})
    assert (answer.status, answer["learnable"]) == (200, True), answer.body
    return str(answer["decision_id"])


def activate(api: Api, *decision_ids: str) -> list[str]:
    answer = api.post("/api/v1/activate", {"decision_ids": list(decision_ids)})
    assert answer.status == 207, answer.body
    return [result["status"] for result in answer["results"]]


def tell(api: Api, decision_id: str, value: float = 1) -> tuple[int, str]:
    answer = api.post("/api/v1/feedback", {"decision_id": decision_id, "value": value})
    return answer.status, answer.body.get("status", "")


def tell_all(api: Api, decision_ids: list[str]) -> None:
    for identity in decision_ids:
        assert tell(api, identity)[0] == 202


def again(experiment: Experiment) -> Experiment:
    return Experiment.objects.select_related("endpoint", "promoted_arm").get(pk=experiment.pk)


def lines(api: Api) -> list[dict[str, Any]]:
    content = api.get("/api/v1/experiments/e/decisions.ndjson").content
    return [msgspec.json.decode(line) for line in content.splitlines()]


def drained(experiment: Experiment) -> None:
    process().shipper.round()  # should a machine that is busy have kept some on its disk
    learn(experiment.endpoint_id)


def learned(experiment: Experiment) -> dict[str, Any]:
    drained(experiment)
    assert rebuild(again(experiment), write=False) == []
    return results(again(experiment))


def test_token__that_waits__is_learnable_by_its_own_bit() -> None:
    signer = Signer("s")
    for learnable in (False, True):
        for waits in (False, True):
            token = Token(new_id(), 7, 9, 11, 0.25, learnable, waits)
            assert signer.read(signer.sign(token)) == token


def test_event_that_waits__is_of_a_version_that_earlier_learners_set_aside() -> None:
    event = events.DecisionEvent(events.WAITING, b"\x01" * 16, 1, 1, [1.0], 1.0, 1, None, None, None, 1.0, None)
    assert events.decode(events.encode(event)).waits
    with pytest.raises(ValueError, match="event version 3"):
        events.decode(events.encode(msgspec.structs.replace(event, version=3)))


def test_never_activated__never_matures(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(reward=SILENT)
    shown, unseen = held_back(alice, "u"), [held_back(alice, f"u{i}") for i in range(20)]
    assert activate(alice, shown) == ["activated"]
    time.sleep(4.2)  # the window, the grace, and a bucket
    told = learned(experiment)
    assert (told["decisions"], told["rewards"]) == (1, 1)  # the default reward of the one
    assert Reward.objects.count() == Decision.objects.count() == 1
    assert told["activation"] == {"decisions": 21, "activated": 1, "share": pytest.approx(1 / 21)}
    assert {line["decision_id"]: line["activated"] for line in lines(alice)} == {
        shown: True,
        **dict.fromkeys(unseen, False),
    }
    assert activate(alice, *unseen[:2], shown) == ["late", "late", "duplicate"]
    assert learned(experiment)["decisions"] == 1
    WaitingDecision.objects.update(open_until=timezone.now() - timedelta(days=8))
    assert ages.prune(timezone.now())["decisions that waited to be activated, after their window"] == 21


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "ab"},
        {"policy": {"name": "thompson", "burn_in": 20}, "sticky": True, "holdout": 0.3},
        {"policy": {"name": "ucb1"}},
        {
            "policy": {"name": "lin-thompson", "burn_in": 20, "floor": 0.1},
            "context": {"fields": [{"name": "age", "type": "number", "min": 0, "max": 100}]},
        },
        {"strategy": "canary", "arms": [{"name": "b", "model": "page@b"}], "canary": {"steps": [0.5, 1.0]}},
        {"strategy": "shadow", "arms": [{"name": "b", "model": "page@b"}]},
    ],
    ids=["ab", "sticky and holdout", "ucb1", "lin-thompson", "canary", "shadow"],
)
def test_half_activated__every_strategy__learns_of_that_half(
    alice: Api, two_arms: Start, changes: dict[str, Any]
) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 600}, **changes)
    context = {"age": 30} if "context" in changes else None
    ids = [held_back(alice, f"u{i % 40}", context=context) for i in range(120)]
    drained(experiment)
    assert Decision.objects.count() == FirstVisit.objects.count() == 0
    for i, identity in enumerate(ids):
        assert tell(alice, identity, i % 3 == 0)[0] == 202
    assert activate(alice, *ids[::2]) == ["activated"] * 60
    told = learned(experiment)
    assert (told["decisions"], told["rewards"]) == (60, 60)
    assert told["comparison"]["sample_ratio_p"] is None or told["comparison"]["sample_ratio_p"] > 0.001
    assert {line["decision_id"] for line in lines(alice) if line["activated"]} == set(ids[::2])
    assert [line["decision_id"] for line in lines(alice)] == ids
    units = {f"u{i % 40}" for i in range(0, 120, 2)}
    assert set(FirstVisit.objects.values_list("unit", flat=True)) <= units
    assert activate(alice, *ids) == ["duplicate", "activated"] * 60
    assert learned(experiment)["rewards"] == 120


def test_activation_and_feedback__in_any_order__come_to_the_same(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 600})
    early, told_first, told_last, never = (held_back(alice, unit) for unit in "abcd")
    assert activate(alice, early) == ["activated"]  # nothing is drained yet
    assert tell(alice, told_first) == (202, "recorded")
    drained(experiment)
    processes.reset()
    assert activate(alice, told_first, told_last) == ["activated", "activated"]
    for identity in (early, told_last, never):
        assert tell(alice, identity) == (202, "recorded")
    for identity in (early, told_first, told_last, never):
        assert tell(alice, identity) == (200, "duplicate")
        assert tell(alice, identity, 0)[0] == 409
    assert any_to_take(timezone.now() + timedelta(hours=1))
    assert experiment.endpoint_id in pending.find().learn
    told = learned(experiment)
    assert (told["decisions"], told["rewards"]) == (3, 3)
    assert not any_to_take(timezone.now() + timedelta(hours=1))
    signer = process().signer
    assert Reward.objects.get(experiment_id=0).decision_id == UUID(bytes=signer.read(never).id)
    assert Reward.objects.filter(folded=True).count() == 3
    assert [line["activated"] for line in lines(alice)] == [True, True, True, False]


def test_activate__each_id__has_its_own_status(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 600})
    waits, at_once = held_back(alice, "u"), str(alice.post(DECIDE, {"unit": "v"})["decision_id"])
    not_kept = str(alice.post(DECIDE, {"exclude": ["a", "b"], "activate": False})["decision_id"])
    answer = alice.post("/api/v1/activate", {"decision_ids": [waits, waits, at_once, not_kept, "forged"]})
    assert [(one["status"], one["error"] and one["error"]["field"]) for one in answer["results"]] == [
        ("activated", None),
        ("duplicate", None),
        ("duplicate", None),
        ("not_learnable", "decision_ids"),
        ("unknown", "decision_ids"),
    ]
    drained(experiment)
    assert activate(alice, waits) == ["duplicate"]
    assert Decision.objects.get(activated_at__isnull=False).unit == "u"
    for key, status in (("feedback", "duplicate"), ("predict", "")):
        caller = Api(create_key(name=key, scopes=[key], actor=ACTOR)[1])
        answer = caller.post("/api/v1/activate", {"decision_ids": [waits]})
        assert answer.status == (207 if status else 403)
    for wrong, field in (
        ({}, "decision_ids"),
        ({"decision_ids": []}, "decision_ids"),
        ({"decision_ids": [1]}, "decision_ids[0]"),
    ):
        assert alice.post("/api/v1/activate", wrong).fields() == [field]
    assert alice.post("/api/v1/activate", {"decision_ids": ["x"] * 1001}).status == 400
    assert alice.post(DECIDE, {"activate": "no"}).fields() == ["activate"]


def test_many_at_once__each_decision_is_activated_once__and_no_reward_is_left(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 600})
    ids = [held_back(alice, f"u{i}") for i in range(60)]
    statuses: list[str] = []
    stop = threading.Event()

    def learning() -> None:
        while not stop.is_set():
            learn(experiment.endpoint_id)
        connections.close_all()

    def calling(call: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            call()
            connections.close_all()

        return threading.Thread(target=run)

    callers = [
        *(calling(lambda: statuses.extend(activate(alice, *ids))) for _ in range(3)),
        *(calling(partial(tell_all, alice, part)) for part in (ids[:30], ids[30:])),
    ]
    learner = threading.Thread(target=learning)
    for thread in (learner, *callers):
        thread.start()
    for thread in callers:
        thread.join()
    stop.set()
    learner.join()
    assert sorted(statuses) == ["activated"] * 60 + ["duplicate"] * 120
    told = learned(experiment)
    assert (told["decisions"], told["rewards"]) == (60, 60)
    assert not Reward.objects.filter(experiment_id=0).exists()


def test_unit_forgotten_meanwhile__is_named_by_nothing__and_its_decision_counts(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(reward={"kind": "binary", "window_seconds": 600})
    identity = held_back(alice, "somebody", request_id="r")
    drained(experiment)
    assert forget("somebody", actor=ACTOR, dry_run=True)["decisions that are not activated"] == 1
    forget("somebody", actor=ACTOR)
    row = WaitingDecision.objects.get()
    assert b"somebody" not in bytes(row.event or b"")
    assert (row.unit or "").startswith("forgotten:")
    assert activate(alice, identity) == ["activated"]
    assert learned(experiment)["decisions"] == 1
    assert str(Decision.objects.get().unit).startswith("forgotten:")


def test_arm_that_fails__decision_that_was_shown_after_all__is_its_failure(alice: Api) -> None:
    endpoint_of("pages", python_model("m", "good", "ones"))
    python_model("m", "bad", "raises")
    experiment = start_experiment(
        {
            "name": "e",
            "endpoint": "pages",
            "strategy": "ab",
            "arms": [
                {"name": "bad", "model": "m@bad", "weight": 1.0},
                {"name": "good", "model": "m@good", "weight": 1e-9},
            ],
        }
    )
    process().store.refresh()
    answers = [alice.post(PREDICT, {"inputs": [[1.0]], "activate": False}).body for _ in range(3)]
    assert {(answer["fallback_reason"], answer["learnable"]) for answer in answers} == {("error", False)}
    assert learned(experiment)["decisions"] == 0
    assert tell(alice, answers[0]["decision_id"])[0] == 409
    assert activate(alice, answers[0]["decision_id"]) == ["activated"]
    told = learned(experiment)
    assert (told["decisions"], told["arms"][0]["error_rate"]) == (1, 1.0)


def test_single_deployment__what_was_shown__is_its_baseline(alice: Api, two_arms: Start) -> None:
    experiment = two_arms()
    assert alice.post("/api/v1/experiments/e/stop").status == 200
    process().store.refresh()
    ids = [held_back(alice, f"u{i}") for i in range(4)]
    assert activate(alice, *ids[:3]) == ["activated"] * 3
    assert [tell(alice, identity)[0] for identity in ids] == [202] * 4
    drained(experiment)
    baselines.fold(experiment.endpoint_id)
    assert [(row.decisions, row.rewards) for row in BaselineInterval.objects.all()] == [(3, 3)]
