"""Many requests in one call, each decided once by its request_id, however often it is sent."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from noregret.experiments.models import Endpoint
from noregret.learning.models import ArmStatistics
from noregret.steering.round import learn

from serving.ledger.decision_log import StreamUnavailable
from serving.process import process
from tests.conftest import Api, endpoint_of, python_model, start_experiment
from tests.streams.answered import check_one_answer_and_row_each, digits_experiment, request

PREDICTIONS = "/api/v1/endpoints/digits/predictions"


@pytest.fixture
def digits(platform: None) -> Endpoint:
    return digits_experiment()


def sent(api: Api, *requests: Any, **fields: Any) -> list[dict[str, Any]]:
    answer = api.post(PREDICTIONS, {"requests": list(requests), **fields})
    assert answer.status == 207, answer.content
    results: list[dict[str, Any]] = answer["results"]
    return results


def test_predictions__sent_again__are_the_same_and_once_in_the_ledger_and_in_the_statistics(
    digits: Endpoint, bob: Api
) -> None:
    names = [f"r-{number}" for number in range(40)]
    first = sent(bob, *map(request, names))
    learn(digits.pk)
    again = sent(bob, *map(request, reversed(names)))
    assert [result["status"] for result in first] == [200] * 40
    assert again == first[::-1]
    assert {result["answer"]["arm"] for result in first} == {"a", "b"}
    check_one_answer_and_row_each(digits, names, [result["answer"] for result in first])
    learn(digits.pk)
    assert sum(ArmStatistics.objects.values_list("decisions", flat=True)) == 40


def test_predictions__some_that_cannot_be_answered__spoil_no_other(digits: Endpoint, bob: Api) -> None:
    results = sent(
        bob,
        request("good"),
        {"inputs": [[1.0]]},
        request("text", inputs=[["x"]]),
        7,
        request("good"),
        request("good", inputs=[[2.0]]),
        request("unknown", colour="red"),
    )
    assert [result["status"] for result in results] == [200, 400, 400, 400, 200, 409, 400]
    assert results[0] == results[4]
    fields = [
        [error["field"] for error in result["problem"].get("errors", [])] for result in results if result["problem"]
    ]
    assert fields == [["request_id"], ["inputs[0][0]"], [""], [], ["colour"]]
    check_one_answer_and_row_each(digits, ["good"], [results[0]["answer"]])
    assert sent(bob, request("good", unit="another"))[0]["status"] == 409


def test_predictions__call_that_cannot_be_used__is_refused_as_a_whole(digits: Endpoint, bob: Api) -> None:
    for field, body in {
        "requests": {"requests": [{"request_id": str(number), "inputs": [[1.0]]} for number in range(101)]},
        "remember_seconds": {"requests": [request("a")], "remember_seconds": 9},
        "seconds": {"requests": [request("a")], "seconds": 9},
    }.items():
        answer = bob.post(PREDICTIONS, body)
        assert (answer.status, answer.fields()) == (400, [field])
    one = b'"requests": [{"request_id": "a:b", "inputs": [[1.0]]}]'
    assert bob.post(PREDICTIONS, b"{%b, %b}" % (one, one))["type"] == "/problems/invalid-json"
    assert bob.post(PREDICTIONS, b"{%b}" % one).status == 207


def test_predictions__ledger_took_nothing__sent_again_they_are_what_was_kept(
    digits: Endpoint, bob: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"r-{number}" for number in range(20)]
    with monkeypatch.context() as broken:

        def refuse(endpoint: str, bodies: Any) -> None:
            raise StreamUnavailable("unreachable", "gone")

        broken.setattr(process().log, "append_many", refuse)
        answer = bob.post(PREDICTIONS, {"requests": [request(name) for name in names]})
        assert (answer.status, answer["type"]) == (503, "/problems/unavailable")
    kept = {
        name: there.answer for name, there in zip(names, process().answered("digits").look(names), strict=True) if there
    }
    results = sent(bob, *map(request, names))
    assert [result["answer"]["decision_id"].encode() in kept[result["answer"]["request_id"]] for result in results] == [
        True
    ] * 20
    check_one_answer_and_row_each(digits, names, [result["answer"] for result in results])


def test_predictions__eight_callers_of_the_same_requests__are_told_the_same(digits: Endpoint, bob: Api) -> None:
    process().store.refresh()  # so that no thread meets a new key
    names = [f"r-{number}" for number in range(60)]

    def ask(turn: int) -> list[dict[str, Any]]:
        return sent(bob, *map(request, names))

    with ThreadPoolExecutor(8) as callers:
        told = list(callers.map(ask, range(8)))
    assert all(results == told[0] for results in told)
    check_one_answer_and_row_each(digits, names, [result["answer"] for result in told[0]])


def test_predictions__model_that_fails__is_told_to_be_sent_again_and_leaves_no_row(platform: None, bob: Api) -> None:
    python_model("broken", "1", "raises")
    endpoint = endpoint_of("digits", "broken@1")
    start_experiment(
        {
            "name": "e",
            "endpoint": "digits",
            "strategy": "ab",
            "arms": [{"name": "a", "model": "broken@1"}, {"name": "b", "model": python_model("ones", "1", "ones")}],
        }
    )
    results = sent(bob, *(request(f"r-{number}") for number in range(30)))
    failed = [result for result in results if result["status"] != 200]
    answered = [result["answer"] for result in results if result["status"] == 200]
    assert {result["status"] for result in failed} == {503}
    assert {answer["arm"] for answer in answered} == {"b"}
    from noregret.learning.drain import drain

    from serving.ledger.models import Decision

    drain(endpoint)
    assert sorted(Decision.objects.values_list("request_id", flat=True)) == sorted(
        answer["request_id"] for answer in answered
    )
