"""A model that is slow or hangs costs its own requests, for no longer than its endpoint's deadline;
and threads in a bounded number."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import skops.io
from django.core.files.uploadedfile import SimpleUploadedFile
from noregret.registry import uploads
from noregret.registry.models import ModelVersion
from sklearn.datasets import load_iris
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from serving import pace
from serving.breaker import FAILURES
from serving.deadline import LEFT_BEHIND, BoundedCaller, DeadlineExceeded, Overloaded
from serving.pace import CAREFUL_SECONDS, INLINE_SECONDS, LATE_SECONDS, Pace
from serving.process import process
from tests.conftest import Api, endpoint_of, python_model, start_experiment, static_model

IRIS, SPECIES = load_iris(return_X_y=True)


def upload(api: Api, version: str, model: Any) -> Any:
    file = SimpleUploadedFile("m.skops", skops.io.dumps(model))
    return api.upload("/api/v1/models", {"name": "m", "version": version, "framework": "sklearn", "artifact": file})


def test_original_that_takes_long_for_many_rows__champion_answers_and_the_circuit_opens(alice: Api) -> None:
    slow = make_pipeline(RBFSampler(n_components=10_000, random_state=0), LogisticRegression(max_iter=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        slow.fit(IRIS, SPECIES)
    answer = upload(alice, "slow", slow)
    assert not answer["compiled"]
    assert answer["row_seconds"] * 400 > INLINE_SECONDS
    endpoint_of("pages", static_model("m", "good", "payload"), deadline_ms=50)
    start_experiment(
        {"name": "e", "endpoint": "pages", "strategy": "canary", "arms": [{"name": "slow", "model": "m@slow"}],
         "canary": {"steps": [0.5, 1.0], "bake_seconds": 3600}}
    )  # fmt: skip
    alice.post("/api/v1/experiments/e/advance")
    process().store.refresh(20.0)
    rows = np.resize(IRIS, (400, 4)).tolist()
    answers = [alice.post("/api/v1/endpoints/pages/predict", {"inputs": rows}) for _ in range(12)]
    assert {answer.status for answer in answers} == {200}
    slows = [answer["fallback_reason"] for answer in answers if answer["arm"] == "slow"]
    assert set(slows) <= {"timeout", "overloaded", "circuit_open"}
    assert slows[:1] == ["timeout"]
    assert {answer["model"] for answer in answers} == {"m@good"}
    live = process().store.endpoint("pages")
    assert live is not None
    assert live.arms[1].caller.left <= LEFT_BEHIND
    assert wait_for(lambda: live.arms[1].caller.left == 0)


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_champion_that_hangs__is_not_waited_for_again_and_again__and_others_are_served(alice: Api) -> None:
    endpoint_of("hangs", python_model("m", "hangs", "sleeps"), deadline_ms=50)
    endpoint_of("quick", python_model("m", "quick", "ones"))
    told = []
    for _ in range(FAILURES + 5):
        answer = alice.post("/api/v1/endpoints/hangs/predict", {"inputs": [[1.0]]})
        assert (answer.status, answer.response["Retry-After"]) == (503, "1")
        told.append(answer["detail"].removeprefix("the champion could not answer: "))
        assert alice.post("/api/v1/endpoints/quick/predict", {"inputs": [[1.0]]}).status == 200
    assert told[:FAILURES] == ["m@hangs did not answer in time"] * FAILURES
    assert set(told[FAILURES:]) == {"m@hangs passed its deadline too often to be asked now"}


def test_many_rows_that_take_too_long__are_their_senders_affair(alice: Api) -> None:
    """Nobody else is refused for them: what a row takes would fit the deadline."""
    endpoint_of("pages", python_model("m", "1", "sleeps_for_many"), deadline_ms=100)
    one, many = {"inputs": [[1.0]]}, {"inputs": [[1.0]] * 50}
    assert alice.post("/api/v1/endpoints/pages/predict", one).status == 200
    assert {alice.post("/api/v1/endpoints/pages/predict", many).status for _ in range(FAILURES - 1)} == {503}
    live = process().store.endpoint("pages")
    assert live is not None
    assert wait_for(lambda: live.champion.caller.left == 0)
    assert alice.post("/api/v1/endpoints/pages/predict", many).status == 503
    assert live.champion.patience.state == "closed"
    assert alice.post("/api/v1/endpoints/pages/predict", one).status == 200


def test_rows__more_than_are_taken__are_refused(alice: Api, settings: Any) -> None:
    settings.MAX_ROWS = 3
    endpoint_of("pages", python_model("m", "1", "ones"))
    assert alice.post("/api/v1/endpoints/pages/predict", {"inputs": [[1.0]] * 3}).status == 200
    answer = alice.post("/api/v1/endpoints/pages/predict", {"inputs": [[1.0]] * 4})
    assert (answer.status, answer.fields()) == (400, ["inputs"])
    assert answer["errors"][0]["message"] == "4 rows where at most 3 are taken"


# The parts by themselves.


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_caller__calls_that_never_return__are_left_in_a_bounded_number__and_it_recovers(gate: threading.Event) -> None:
    caller = BoundedCaller("m")
    for _ in range(LEFT_BEHIND):
        with pytest.raises(DeadlineExceeded):
            caller.call(lambda: gate.wait(60), 0.01)
    began = len(threading.enumerate())
    for _ in range(20):
        with pytest.raises(Overloaded):
            caller.call(lambda: gate.wait(60), 0.01)
    assert len(threading.enumerate()) <= began
    gate.set()
    assert wait_for(lambda: caller.left == 0)
    assert caller.call(lambda: "well", 5.0) == "well"


def test_caller__timeout_that_the_call_itself_raises__is_the_calls_error() -> None:
    def raises() -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        BoundedCaller("m").call(raises, 5.0)


def test_caller__as_many_calls_as_are_allowed__all_return(gate: threading.Event) -> None:
    caller = BoundedCaller("m", at_once=3)
    ready = threading.Barrier(4)

    def called() -> bool:
        ready.wait()
        return gate.wait(60)

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(caller.call, called, 30.0) for _ in range(3)]
        ready.wait()
        with pytest.raises(Overloaded):
            caller.call(lambda: True, 1.0)
        gate.set()
        assert [call.result() for call in calls] == [True] * 3
    assert caller.call(lambda: True, 5.0)


def test_pace__what_was_measured__decides_which_calls_are_short() -> None:
    now = [100.0]
    measured = Pace(0.001, 0.0001, lambda: now[0])
    assert measured.expected_seconds(10) == pytest.approx(0.002)
    assert measured.is_short(40)
    assert not measured.is_short(41)
    # A late one says for a while what rows take.
    measured.took(100, 1.0)
    assert measured.expected_seconds(10) == pytest.approx(0.1)
    assert not measured.is_short(1)
    now[0] += CAREFUL_SECONDS + 0.1
    assert measured.is_short(1)
    measured.took(100, LATE_SECONDS)
    measured.took(10_000, 1.0)  # long, and no longer than was expected
    assert measured.is_short(40)


def test_pace__nobody_has_measured__is_learned_from_the_first_call() -> None:
    unknown = Pace()
    assert not unknown.is_short(1)
    assert unknown.expected_seconds(1) is None
    unknown.took(10, 0.001)
    assert unknown.expected_seconds(50) == pytest.approx(0.005)
    assert unknown.is_short(49)
    assert not unknown.is_short(51)
    assert pace.INLINE_SECONDS == 0.005


# Uploads.


def test_uploads__eight_at_once__few_are_inspected__others_are_told_to_come_again__and_predict_answers(
    alice: Api,
) -> None:
    endpoint_of("pages", static_model("page", "a"))
    model = LogisticRegression(max_iter=500).fit(IRIS, SPECIES)
    together = threading.Barrier(9)

    def send(version: int) -> Any:
        from django.db import connection

        together.wait()
        try:
            return upload(alice, str(version), model)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(send, version) for version in range(8)]
        together.wait()
        assert alice.post("/api/v1/endpoints/pages/decide").status == 200
        answers = [future.result() for future in sent]
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [201] * uploads.AT_ONCE + [503] * (8 - uploads.AT_ONCE)
    refused = next(answer for answer in answers if answer.status == 503)
    assert refused.response["Retry-After"] == "10"
    assert (
        refused["detail"] == f"{uploads.AT_ONCE} uploads are under way, which is as many as this process takes at once"
    )
    assert ModelVersion.objects.filter(name="m").count() == uploads.AT_ONCE
    with uploads.slot():
        pass
