"""The asynchronous client: the same calls, retries and fallback on an event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from noregret_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    FailedFeedback,
    InvalidRequest,
    PlatformUnavailable,
    Retries,
    Unreachable,
)
from sklearn.linear_model import LogisticRegression

from tests.clients.conftest import served_by
from tests.clients.faulty_proxy import DRIP, DROP, HANG, LOSE_ANSWER, FaultyProxy, unavailable

ROWS = np.array([[5.1, 3.5], [1e9, 0.002], [-4.5, 0.0]])
Do = Callable[[Callable[[AsyncClient], Awaitable[Any]]], Any]


@pytest.fixture
def failed() -> list[FailedFeedback]:
    return []


@pytest.fixture
def do(proxy: FaultyProxy, key: str, failed: list[FailedFeedback]) -> Do:
    """Runs a coroutine function with a client through the proxy."""

    def run(act: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            retries = Retries(first_pause=0.01)
            async with AsyncClient(
                proxy.url, key, timeout=20.0, retries=retries, on_feedback_failed=failed.append
            ) as client:
                return await act(client)

        return asyncio.run(whole())

    return run


def test_from_model_to_reward__as_the_synchronous_client(do: Do, client: Client) -> None:
    model = LogisticRegression().fit(ROWS, ["long", "long", "short"])

    async def act(one: AsyncClient) -> None:
        assert (await one.register(model, name="other", version="1", sample=ROWS)).model == "other@1"
        await one.create_endpoint("other", champion="other@1")
        served_by(client, "other", None)
        async with one.decision("other", ROWS, unit="u") as decision:
            assert decision.predictions == model.predict(ROWS).tolist()
            assert decision.reward(1)
        assert await one.flush(20.0)
        assert await one.feedback(str(decision.decision_id), 1) == "duplicate"
        with pytest.raises(InvalidRequest):
            await one.create_experiment({"name": "other-1", "endpoint": "other", "strategy": "magic", "arms": []})

    do(act)


def test_tries__deadline_and_lost_answers(do: Do, proxy: FaultyProxy, pages: str) -> None:
    async def act(one: AsyncClient) -> None:
        proxy.goes_wrong(unavailable(), unavailable(retry_after=0))
        assert (await one.decide(pages)).arm
        assert len({body["request_id"] for body in proxy.bodies()}) == 1
        for fault, expected in (
            (LOSE_ANSWER, Unreachable),
            (HANG, DeadlineExceeded),
            (DRIP, DeadlineExceeded),
            (unavailable(retry_after=30), PlatformUnavailable),
        ):
            before = len(proxy.requests)
            proxy.goes_wrong(fault)
            with pytest.raises(expected):
                await one.decide(pages, timeout=0.5)
            assert len(proxy.requests) == before + 1
        decision_id = (await one.decide(pages)).decision_id
        assert decision_id is not None
        proxy.goes_wrong(LOSE_ANSWER)
        assert await one.feedback(decision_id, 0) == "duplicate"

    do(act)


def test_many_at_once__each_gets_its_own_answer(do: Do, pages: str) -> None:
    async def act(one: AsyncClient) -> None:
        answers = await asyncio.gather(*(one.decide(pages, unit=f"u-{i}") for i in range(40)))
        assert len({answer.decision_id for answer in answers}) == 40

    do(act)


def test_fallback_and_failures_of_feedback(
    do: Do, proxy: FaultyProxy, pages: str, failed: list[FailedFeedback]
) -> None:
    async def act(one: AsyncClient) -> None:
        proxy.goes_wrong(DROP, DROP)
        local = await one.endpoint("x", fallback=lambda rows: rows.sum(axis=1)).predict([[1.0, 2.5]])
        assert (local.predictions, local.fallback_reason) == ([3.5], "platform_unreachable")
        async with one.endpoint(pages, fallback_payload={"text": "plain"}).decision() as decision:
            assert decision.payload == {"text": "plain"}
            assert decision.reward(1) is False
        one.feedback_later("forged", 1)

    do(act)
    assert [one.status for one in failed] == ["unknown"]
