"""Requests that are computed together: each gets its own, and nobody pays for another's rows."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving import snapshot
from serving.answering import serve, serve_alone
from serving.batching import Batching
from serving.deadline import BoundedCaller, WaitedInVain
from serving.live import LiveEndpoint, LiveModel, make_live
from serving.runtimes.columns import Column, Table
from serving.runtimes.rows import to_rows
from serving.runtimes.runtime import RowsRefused
from serving.runtimes.sklearn import SklearnModel
from tests.conftest import Api, endpoint_of, static_model
from tests.serving.test_when_things_break import wait_for

MODEL = SklearnModel(model="m@1", framework="sklearn", sha256="a" * 64, features=2, call_seconds=0.5)
REWARD = snapshot.Reward(1, "e", "reward", "binary", "maximize", 60.0)


class Slow:
    """A model whose calls wait for a gate; it notes how many rows each had."""

    bounded = True

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls: list[int] = []

    def predict(self, rows: Any) -> Any:
        self.calls.append(len(rows))
        assert self.gate.wait(60.0)
        values = rows.tolist()
        if any(-1.0 in row for row in values):
            raise RowsRefused("a negative one")
        return {"predict": [str(row) for row in values], "predict_proba": [[row[0], 1.0] for row in values]}


def rows_of(*first: float) -> Any:
    return np.array([[value, 0.0] for value in first])


def expected(*first: float) -> Any:
    return {"predict": [str([value, 0.0]) for value in first], "predict_proba": [[value, 1.0] for value in first]}


def busy(pool: ThreadPoolExecutor, slow: Slow, ask: Any, requests: list[Any]) -> list["Future[Any]"]:
    """The first request is being computed, and the others wait."""
    first = pool.submit(ask, requests[0])
    assert wait_for(lambda: len(slow.calls) == 1)
    others = [pool.submit(ask, request) for request in requests[1:]]
    time.sleep(0.2)  # they have come by now; where one has not, there is a call more
    return [first, *others]


def test_busy_model__whoever_waits_is_the_next_call__and_gets_its_own() -> None:
    slow, batching = Slow(), Batching(most_rows=6, wait_seconds=0.0)
    requests = [(1.0,), (2.0, 3.0), (4.0,), (5.0, 6.0), (7.0,), (8.0, 9.0), (10.0,)]

    def ask(first: Any) -> Any:
        return batching.predict(MODEL, rows_of(*first), slow.predict, time.perf_counter() + 60.0)

    with ThreadPoolExecutor(8) as pool:
        answers = busy(pool, slow, ask, requests)
        slow.gate.set()
        assert [answer.result() for answer in answers] == [expected(*request) for request in requests]
    assert slow.calls[0] == 1
    assert sum(slow.calls) == 10
    assert max(slow.calls) <= 6
    assert len(slow.calls) < len(requests)
    # As many as a call holds, or of no known width: by itself.
    assert ask([float(i) for i in range(6)]) == expected(*(float(i) for i in range(6)))


def test_tables__are_joined_column_by_column() -> None:
    columns = (Column("city", "string", nullable=True), Column("age", "integer"))
    model = SklearnModel(model="m@1", framework="sklearn", sha256="a" * 64, features=2, columns=columns)
    slow, batching = Slow(), Batching(most_rows=6, wait_seconds=0.0)
    requests = [[["Seoul", 1]], [[None, 2], ["Busan", 3]], [["x" * 100, 4]]]
    joined: list[Any] = []

    def call(rows: Any) -> Any:
        assert isinstance(rows, Table)
        joined.append([array.dtype for array in rows.arrays])
        return slow.predict(rows)

    def ask(rows: Any) -> Any:
        return batching.predict(model, to_rows(rows, model), call, time.perf_counter() + 60.0)["predict"]

    with ThreadPoolExecutor(4) as pool:
        answers = busy(pool, slow, ask, requests)
        slow.gate.set()
        assert [answer.result() for answer in answers] == [[str(row) for row in rows] for rows in requests]
    assert {tuple(dtypes) for dtypes in joined} == {(np.dtype(object), np.dtype(np.int64))}


def test_row_that_the_model_refuses__fails_its_own_request_alone() -> None:
    slow, batching = Slow(), Batching(most_rows=100, wait_seconds=0.0)
    requests = [(1.0,), (2.0,), (-1.0,), (3.0,)]

    def ask(first: Any) -> Any:
        return batching.predict(MODEL, rows_of(*first), slow.predict, time.perf_counter() + 60.0)

    with ThreadPoolExecutor(4) as pool:
        answers = busy(pool, slow, ask, requests)
        slow.gate.set()
        for request, answer in zip(requests, answers, strict=True):
            if -1.0 in request:
                with pytest.raises(RowsRefused):
                    answer.result()
            else:
                assert answer.result() == expected(*request)
    assert ask((4.0,)) == expected(4.0)


def test_deadline__ends_the_wait__and_the_turn_is_not_lost() -> None:
    slow, batching = Slow(), Batching(most_rows=100, wait_seconds=0.0)

    def ask(seconds: float) -> Any:
        return batching.predict(MODEL, rows_of(1.0), slow.predict, time.perf_counter() + seconds)

    with ThreadPoolExecutor(8) as pool:
        answers = busy(pool, slow, ask, [60.0, 60.0, 0.05, 0.05, 60.0])
        for answer in answers[2:4]:
            with pytest.raises(WaitedInVain):
                answer.result()
        slow.gate.set()
        assert [answers[i].result() for i in (0, 1, 4)] == [expected(1.0)] * 3
    # Many that leave while turns are handed on.
    slow.calls.clear()

    def quick(rows: Any) -> Any:
        time.sleep(0.002)
        return {"predict": rows[:, 0].tolist()}

    def hasty(i: int) -> Any:
        try:
            seconds = 0.0005 * (i % 9)
            return batching.predict(MODEL, rows_of(float(i)), quick, time.perf_counter() + seconds)["predict"] == [i]
        except WaitedInVain:
            return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(hasty, range(600)))
    assert ask(60.0) == expected(1.0)


def test_who_comes_alone__does_not_wait_for_company() -> None:
    slow, batching = Slow(), Batching(most_rows=100, wait_seconds=30.0)
    slow.gate.set()
    began = time.monotonic()
    for _ in range(3):
        batching.predict(MODEL, rows_of(1.0), slow.predict, time.perf_counter() + 600.0)
    assert time.monotonic() - began < 25.0


# As requests meet it.


def endpoint(slow: Slow, *, as_arm: bool = False) -> LiveEndpoint:
    model = LiveModel(MODEL, slow, BoundedCaller("m@1"))
    steady = LiveModel(
        SklearnModel(model="m@0", framework="sklearn", sha256="b" * 64, features=2), Steady(), BoundedCaller("m@0")
    )
    arms = [snapshot.Arm(1, "old", steady.model, 0.5, is_control=True), snapshot.Arm(2, "new", MODEL, 0.5)]
    document = snapshot.Endpoint(
        1, "pages", 1, 0.0, steady.model if as_arm else MODEL, 400,
        experiment=snapshot.Experiment(1, "e", "ab", arms, REWARD) if as_arm else None,
        batch=snapshot.Batch(rows=64),
    )  # fmt: skip
    found = {"m@0": steady, "m@1": model}
    return replace(make_live(document, lambda one: found[one.model]), batching=Batching.of(document))


class Steady:
    bounded = True

    def predict(self, rows: Any) -> Any:
        return {"predict": ["steady"] * len(rows)}


def test_champion_that_hangs__one_call_counts_and_not_everybody_who_waited() -> None:
    slow = Slow()
    live = endpoint(slow)
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda i: serve(live, live.champion, rows_of(float(i)), time.perf_counter()), range(8)))
    assert {one.fallback_reason for one in told} == {"no_answer"}
    # The first, and one who came when it was already left; none of those who had waited for it.
    assert len(slow.calls) <= 2
    assert live.champion.patience.state == "closed"
    slow.gate.set()
    assert wait_for(lambda: live.champion.caller.left == 0)
    assert serve_alone(live, live.champion, rows_of(1.0), time.perf_counter() + 60.0) == expected(1.0)


def test_arm_that_hangs__the_champion_answers_each__and_one_that_refuses_its_own_rows_alone() -> None:
    slow = Slow()
    live = endpoint(slow, as_arm=True)
    with ThreadPoolExecutor(3) as pool:  # fewer than open a circuit, if each call is one of its own
        told = list(pool.map(lambda i: serve(live, live.arms[1], rows_of(float(i)), time.perf_counter()), range(3)))
    assert {(one.fallback_reason, one.outputs["predict"][0]) for one in told} == {("timeout", "steady")}
    slow.gate.set()
    assert wait_for(lambda: live.arms[1].caller.left == 0)
    with ThreadPoolExecutor(4) as pool:
        some = [1.0, 2.0, -1.0, 3.0]
        late = time.perf_counter() + 60.0
        answers = list(pool.map(lambda first: serve(live, live.arms[1], rows_of(first), late), some))
    assert [one.fallback_reason for one in answers] == [None, None, "error", None]


def test_setting__checked__audited__and_part_of_the_endpoint(alice: Api) -> None:
    endpoint_of("pages", static_model("m", "1", "payload"))
    for wrong, field in (
        ({}, "batch.rows"),
        ({"rows": 1}, "batch.rows"),
        ({"rows": 9, "wait_ms": 1000}, "batch.wait_ms"),
    ):
        answer = alice("PATCH", "/api/v1/endpoints/pages", {"batch": wrong})
        assert (answer.status, answer.fields()) == (400, [field])
    changed = alice("PATCH", "/api/v1/endpoints/pages", {"batch": {"rows": 32}})
    assert changed["batch"] == {"rows": 32, "wait_ms": 0.0}
    assert alice("PATCH", "/api/v1/endpoints/pages", {"batch": None})["batch"] is None
    told = [entry["details"]["batch"] for entry in alice.get("/api/v1/audit?endpoint=pages")["items"][:2]]
    assert told == [[{"rows": 32, "wait_ms": 0.0}, None], [None, {"rows": 32, "wait_ms": 0.0}]]
