"""Predict, decide and feedback as the contract has them, over the whole of the hot path."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from noregret.experiments.models import Experiment
from noregret.learning.models import ArmStatistics
from noregret.rollout.transitions import move
from noregret.steering.round import learn

from serving.models import Decision, Reward
from serving.process import process
from serving.tokens import Token, new_id
from tests.conftest import Api, endpoint_of, python_model, start_experiment, static_model

Start = Callable[..., Experiment]
PREDICT = "/api/v1/endpoints/pages/predict"
DECIDE = "/api/v1/endpoints/pages/decide"
FEEDBACK = "/api/v1/feedback"


def test_predict__without_experiment__is_single_and_recorded(alice: Api) -> None:
    endpoint_of("pages", python_model("zero", "1", "zeros"))
    answer = alice.post(PREDICT, {"inputs": [[1.0, 2.0], [3.0, 4.0]]})
    assert answer.status == 200, answer.content
    body = answer.body
    decision_id = body.pop("decision_id")
    assert len(decision_id) == 88
    assert body == {
        "endpoint": "pages",
        "experiment": None,
        "arm": None,
        "model": "zero@1",
        "strategy": "single",
        "propensity": 1.0,
        "policy_version": 1,
        "outputs": {"predict": [0, 0]},
        "learnable": True,
        "stale": False,
        "fallback_reason": None,
    }
    assert {part.split(";")[0].strip() for part in answer.response["Server-Timing"].split(",")} == {
        "route",
        "predict",
        "record",
    }
    heard = alice.post(FEEDBACK, {"decision_id": decision_id, "value": 1})
    assert (heard.status, heard["status"]) == (202, "recorded")


def test_decide__with_experiment__gives_the_arms_payload(alice: Api, two_arms: Start) -> None:
    two_arms()
    seen = {}
    for _ in range(40):
        body = alice.post(DECIDE, {"unit": "u"}).body
        assert "outputs" not in body
        assert body["propensity"] == pytest.approx(0.5)
        seen[body["arm"]] = body["payload"]
    assert seen == {"a": {"text": "A"}, "b": {"text": "B"}}


def test_learnable_decision__is_in_the_ledger_with_arm_and_propensity(alice: Api, two_arms: Start) -> None:
    experiment = two_arms()
    body = alice.post(DECIDE, {"unit": "u-1", "context": {"country": "KR", "age": 31}, "request_id": "r-1"}).body
    assert body["learnable"] is True
    learn(experiment.endpoint_id)
    row = Decision.objects.get()
    token = process().signer.read(body["decision_id"])
    assert row.id == uuid.UUID(bytes=token.id)
    assert row.arm_id == experiment.arms.get(name=body["arm"]).pk
    assert row.propensity == body["propensity"] == row.propensities[experiment.arms.get(name=body["arm"]).position]
    assert (row.unit, row.context, row.request_id) == ("u-1", {"country": "KR", "age": 31}, "r-1")
    line = alice.get("/api/v1/experiments/e/decisions.ndjson").body
    assert line["decision_id"] == body["decision_id"]
    assert line["reward"] is None
    assert line["request_id"] == "r-1"
    assert line["context"] == {"country": "KR", "age": 31}


def test_feedback__first_again_and_otherwise__recorded_duplicate_conflict(alice: Api, two_arms: Start) -> None:
    two_arms()
    decision = alice.post(DECIDE, {})["decision_id"]
    first = alice.post(FEEDBACK, {"decision_id": decision, "value": 1})
    assert (first.status, first.body) == (202, {"status": "recorded"})
    again = alice.post(FEEDBACK, {"decision_id": decision, "value": True})
    assert (again.status, again.body) == (200, {"status": "duplicate"})
    assert alice.post(FEEDBACK, {"decision_id": decision, "value": 0}).status == 409
    assert Reward.objects.count() == 1


def test_feedback__from_eight_clients_at_once__is_one_row_and_one_change(alice: Api, two_arms: Start) -> None:
    experiment = two_arms()
    decision = alice.post(DECIDE, {})["decision_id"]
    ready = threading.Barrier(8)

    def send() -> int:
        ready.wait()
        status = alice.post(FEEDBACK, {"decision_id": decision, "value": 1}).status
        connection.close()
        return status

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(future.result() for future in [pool.submit(send) for _ in range(8)])
    assert statuses == [200] * 7 + [202]
    assert Reward.objects.count() == 1
    for _ in range(3):
        learn(experiment.endpoint_id)
    assert sum(ArmStatistics.objects.values_list("rewards", flat=True)) == 1


@pytest.mark.parametrize("text", ["", "abc", "A" * 88, "x" * 5000, "é" * 88, "AQE="])
def test_feedback__forged_id__is_not_found(alice: Api, two_arms: Start, text: str) -> None:
    two_arms()
    assert alice.post(FEEDBACK, {"decision_id": text, "value": 1}).status == 404
    assert Reward.objects.count() == 0


def test_feedback__altered_id__is_not_found(alice: Api, two_arms: Start) -> None:
    two_arms()
    decision = alice.post(DECIDE, {})["decision_id"]
    for place in range(0, len(decision), 7):
        other = "A" if decision[place] != "A" else "B"
        forged = decision[:place] + other + decision[place + 1 :]
        assert alice.post(FEEDBACK, {"decision_id": forged, "value": 1}).status == 404


def test_feedback__after_the_window__is_late_and_not_learned(alice: Api, two_arms: Start) -> None:
    experiment = two_arms(reward={"window_seconds": 60})
    arm = experiment.arms.get(name="a")
    past = int((timezone.now() - timedelta(seconds=61)).timestamp() * 1e6)
    token = Token(past.to_bytes(8, "big") + new_id()[8:], experiment.pk, arm.pk, 1, 0.5, True)
    answer = alice.post(FEEDBACK, {"decision_id": process().signer.sign(token), "value": 1})
    assert (answer.status, answer.body) == (202, {"status": "late"})
    learn(experiment.endpoint_id)
    assert Reward.objects.get().late
    assert sum(ArmStatistics.objects.values_list("rewards", flat=True)) == 0


def test_feedback__after_the_experiment_ended__still_counts_within_its_window(alice: Api, two_arms: Start) -> None:
    experiment = two_arms()
    decision = alice.post(DECIDE, {})["decision_id"]
    move(experiment, "stop", actor="tests")
    assert alice.post(FEEDBACK, {"decision_id": decision, "value": 1}).body == {"status": "recorded"}


@pytest.mark.parametrize(
    ("reward", "value", "status"),
    [
        ({"kind": "binary"}, 0.5, 400),
        ({"kind": "binary"}, False, 202),
        ({"kind": "continuous", "minimum": 0, "maximum": 10}, 10.5, 400),
        ({"kind": "continuous", "minimum": 0, "maximum": 10}, -1, 400),
        ({"kind": "continuous", "minimum": 0, "maximum": 10}, True, 400),
        ({"kind": "continuous", "minimum": 0, "maximum": 10}, 10, 202),
        ({"kind": "count", "maximum": 5}, 1.5, 400),
        ({"kind": "count", "maximum": 5}, 5, 202),
    ],
)
def test_feedback__value_and_kind__fit_or_are_refused(
    alice: Api, two_arms: Start, reward: dict[str, Any], value: Any, status: int
) -> None:
    two_arms(reward=reward)
    answer = alice.post(FEEDBACK, {"decision_id": alice.post(DECIDE, {})["decision_id"], "value": value})
    assert answer.status == status
    if status == 400:
        assert answer.fields() == ["value"]
    assert Reward.objects.count() == (status == 202)


def test_feedback_batch__mixed__answers_in_order_and_keeps_the_good(alice: Api, two_arms: Start) -> None:
    two_arms()
    one, two = (alice.post(DECIDE, {})["decision_id"] for _ in range(2))
    answer = alice.post(
        FEEDBACK,
        {
            "feedback": [
                {"decision_id": one, "value": 1},
                {"decision_id": "forged", "value": 1},
                {"decision_id": two, "value": 7},
                {"decision_id": one, "value": 1},
                {"decision_id": one, "value": 0},
                {"decision_id": two},
                {"decision_id": two, "value": 0, "occurred_at": "2026-11-23T10:00:00Z"},
            ]
        },
    )
    assert answer.status == 207
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["recorded", "unknown", "invalid", "duplicate", "conflict", "invalid", "recorded"]
    assert answer["results"][0]["error"] is None
    assert answer["results"][5]["error"]["field"] == "value"
    assert Reward.objects.count() == 2


def test_feedback_batch__too_long_or_empty__is_refused(alice: Api, two_arms: Start) -> None:
    two_arms()
    assert alice.post(FEEDBACK, {"feedback": []}).fields() == ["feedback"]
    assert alice.post(FEEDBACK, {"feedback": [{"decision_id": "x", "value": 1}] * 1001}).fields() == ["feedback"]


@pytest.mark.parametrize(
    "item",
    [
        b'{"decision_id": "\xff", "value": 1}',
        b'{"decision_id": "a", "value": 1, "value": 2}',
        b'{"decision_id": "a", "value": 1e400}',
        b'{"decision_id": "a\\u0000", "value": 1}',
        b'{"decision_id": "\\ud800", "value": 1}',
        b'{"decision_id": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"decision_id": {"a": 1, "a": 2}, "value": 1}',
    ],
    ids=["not UTF-8", "key twice", "no double", "NUL", "surrogate", "deep", "key twice inside"],
)
def test_feedback_batch__item_that_is_not_strict__refuses_the_body(alice: Api, two_arms: Start, item: bytes) -> None:
    two_arms()
    answer = alice.post(FEEDBACK, b'{"feedback": [{"decision_id": "a", "value": 1}, %s]}' % item)
    assert (answer.status, answer.response["Content-Type"]) == (400, "application/problem+json"), answer.content


def test_keys__scope_and_endpoint__are_held(alice: Api, bob: Api, carol: Api, charlie: Api, two_arms: Start) -> None:
    two_arms()
    assert charlie.post(DECIDE, {}).status == 401
    assert charlie.post(DECIDE, {}).response["WWW-Authenticate"] == "Bearer"
    assert Api("nr_wrong").post(DECIDE, {}).status == 401
    assert carol.post(DECIDE, {}).status == 404
    decision = bob.post(DECIDE, {})["decision_id"]
    assert bob.post(FEEDBACK, {"decision_id": decision, "value": 1}).status == 403
    assert carol.post(FEEDBACK, {"decision_id": decision, "value": 1}).status == 404
    assert Reward.objects.count() == 0


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b'\xef\xbb\xbf{"unit": "u"}',
    b'{"unit": "u"} x',
    b'{"unit": "a", "unit": "b"}',
    b'{"context": {"a": 1, "a": 2}}',
    b'{"context": {"a": NaN}}',
    b'{"context": {"a": Infinity}}',
    b'{"context": {"a": 1e999}}',
    b'{"context": {"a": 9999999999999999999999}}',
    b'{"context": ' + b'{"a":' * 40 + b"1" + b"}" * 41,
    b'{"context": {"a": [1]}}',
    b'{"unit": "\\ud800"}',
    b'{"unit": "a\\u0000"}',
    b'{"unit": ""}',
    b'{"unit": 5}',
    b'{"unit": "' + b"u" * 257 + b'"}',
    b'{"inputs": [[1]]}',
    b'{"unknown": 1}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_decide__body_that_is_not_strict__is_400_and_decides_nothing(alice: Api, two_arms: Start, body: bytes) -> None:
    experiment = two_arms()
    answer = alice.post(DECIDE, body)
    assert answer.status == 400, answer.content
    assert answer.response["Content-Type"] == "application/problem+json"
    learn(experiment.endpoint_id)
    assert Decision.objects.count() == 0


def test_serving_calls__method_type_size_and_address__have_their_status(
    alice: Api, two_arms: Start, settings: Any
) -> None:
    two_arms()
    assert alice.get(DECIDE).status == 405
    assert alice.get(DECIDE).response["Allow"] == "POST"
    assert alice.post(DECIDE, b"{}", content_type="text/plain").status == 415
    assert alice.post(DECIDE, b"{}", content_type="application/json; charset=latin-1").status == 415
    assert alice.post(DECIDE, {"unit": "u" * settings.SERVING_BODY_LIMIT}).status == 413
    assert alice.post("/api/v1/endpoints/none/decide", {}).status == 404
    assert alice.post("/api/v1/nothing", {}).status == 404
    assert alice.post("/api/v1/nothing", {}).response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("function", "reason"), [("raises", "error"), ("sleeps", "timeout"), ("short", "error"), ("not_finite", "error")]
)
def test_failing_arm__champion_answers_within_the_deadline__and_nothing_is_credited(
    alice: Api, function: str, reason: str
) -> None:
    endpoint_of("pages", python_model("m", "good", "ones"), deadline_ms=400)
    python_model("m", "bad", function)
    experiment = start_experiment(
        {
            "name": "e",
            "endpoint": "pages",
            "strategy": "ab",
            "arms": [{"name": "good", "model": "m@good", "weight": 0}, {"name": "bad", "model": "m@bad", "weight": 1}],
        }
    )
    started = timezone.now()
    answer = alice.post(PREDICT, {"inputs": [[1.0]], "unit": "u"})
    assert (timezone.now() - started).total_seconds() < 1.0
    assert answer.status == 200
    assert (answer["arm"], answer["model"], answer["fallback_reason"]) == ("bad", "m@good", reason)
    assert answer["outputs"] == {"predict": [1]}
    assert answer["learnable"] is False
    assert alice.post(FEEDBACK, {"decision_id": answer["decision_id"], "value": 1}).status == 409
    learn(experiment.endpoint_id)
    assert ArmStatistics.objects.get(arm__name="bad").failures == 1
    assert alice.get("/api/v1/experiments/e/results")["arms"][1]["error_rate"] == 1.0


def test_rows__that_the_model_cannot_take__name_row_and_feature(alice: Api) -> None:
    endpoint_of("pages", static_model("m", "1"))
    assert alice.post(PREDICT, {"inputs": [[1.0], [1.0, 2.0]]}).fields() == ["inputs[1]"]
    assert alice.post(PREDICT, {"inputs": []}).fields() == ["inputs"]
    assert alice.post(PREDICT, {}).fields() == ["inputs"]
    assert alice.post(PREDICT, {"inputs": [["x"]]}).fields() == ["inputs[0][0]"]
    assert alice.post(PREDICT, {"inputs": [[None]]}).fields() == ["inputs[0][0]"]
    assert alice.post(PREDICT, {"inputs": [[True]]}).fields() == ["inputs[0][0]"]
    assert alice.post(PREDICT, {"inputs": [{"a": 1.0}]}).fields() == ["inputs[0]"]


def test_ab__units__keep_their_arm_and_split_by_weight(alice: Api, two_arms: Start) -> None:
    two_arms(
        strategy="ab",
        arms=[{"name": "a", "model": "page@a", "weight": 3}, {"name": "b", "model": "page@b", "weight": 1}],
    )
    units = [f"user-{i}" for i in range(400)]
    first = [alice.post(DECIDE, {"unit": unit}).body for unit in units]
    again = [alice.post(DECIDE, {"unit": unit})["arm"] for unit in units]
    assert [body["arm"] for body in first] == again
    assert {body["arm"]: body["propensity"] for body in first} == {"a": 0.75, "b": 0.25}
    share = sum(body["arm"] == "a" for body in first) / len(first)
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 400) ** 0.5
