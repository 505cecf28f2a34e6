"""Feedback in the background: batched, bounded, told where it fails, and not lost."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from noregret.embedded.running import RunningPlatform
from noregret_client import Batching, Client, FailedFeedback

from tests.clients.faulty_proxy import LOSE_ANSWER, RESET_MID_ANSWER, Fault, FaultyProxy, answered, unavailable

SOURCE = Path(__file__).resolve().parents[2] / "clients" / "python" / "src"
Made = Callable[..., Client]


@pytest.fixture
def failed() -> list[FailedFeedback]:
    return []


@pytest.fixture
def made(proxy: FaultyProxy, key: str, failed: list[FailedFeedback]) -> Iterator[Made]:
    clients: list[Client] = []

    def make(**batching: float) -> Client:
        client = Client(
            proxy.url,
            key,
            timeout=20.0,
            batching=Batching(close_seconds=60.0, **batching),  # type: ignore[arg-type]
            on_feedback_failed=failed.append,
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def decisions(client: Client, pages: str) -> list[str]:
    """Ids of ten decisions that wait for their reward."""
    return [decision_id for _ in range(10) if (decision_id := client.decide(pages).decision_id)]


def batches(proxy: FaultyProxy) -> list[int]:
    return [len(body["feedback"]) for body in proxy.bodies()]


def recorded(client: Client, decision_ids: list[str], value: int = 1) -> bool:
    """Does the ledger have this value for each?"""
    return all(client.feedback(decision_id, value) == "duplicate" for decision_id in decision_ids)


def test_feedback__is_batched_by_size_and_time(
    made: Made, client: Client, proxy: FaultyProxy, decisions: list[str]
) -> None:
    by_size = made(size=4, seconds=60.0)
    for decision_id in decisions[:8]:
        assert by_size.feedback_later(decision_id, 1)
    assert by_size.flush(20.0)
    assert batches(proxy) == [4, 4]
    by_time = made(size=500, seconds=0.05)
    for decision_id in decisions[8:]:
        by_time.feedback_later(decision_id, True)
    assert by_time.flush(20.0)
    assert sum(batches(proxy)) == 10
    assert recorded(client, decisions)


def test_single_items__that_fail__are_told_and_spoil_no_other(
    made: Made, client: Client, failed: list[FailedFeedback], decisions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "noregret_client")
    client.feedback(decisions[0], 0)
    background = made()
    background.feedback_later(decisions[0], 1)
    background.feedback_later("forged", 1)
    background.feedback_later(decisions[1], 7)
    background.feedback_later(decisions[2], 1)
    assert background.flush(20.0)
    assert [(one.feedback.decision_id, one.status) for one in failed] == [
        (decisions[0], "conflict"),
        ("forged", "unknown"),
        (decisions[1], "invalid"),
    ]
    assert "binary" in failed[2].message
    assert "conflict (1), unknown (1), invalid (1)" in caplog.text
    assert recorded(client, decisions[2:3])
    for wrong in ("1", None, float("inf"), 10**400):
        with pytest.raises((TypeError, ValueError)):
            background.feedback_later(decisions[3], wrong)  # type: ignore[arg-type]
    ends_of_time = datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=23)))
    for more in ({"metric": "a\0b"}, {"metric": ""}, {"occurred_at": ends_of_time}):
        with pytest.raises(ValueError, match=r"metric|occurred_at"):
            background.feedback_later(decisions[3], 1, **more)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NUL"):
        background.feedback_later("a\0b", 1)


def test_answer__that_says_nothing_of_some__is_asked_for_again(
    made: Made, client: Client, proxy: FaultyProxy, failed: list[FailedFeedback], decisions: list[str]
) -> None:
    recorded_both = [{"status": "recorded", "error": None}] * 2
    proxy.goes_wrong(answered(207, {"results": recorded_both}), answered(207, {"results": []}))
    background = made()
    for decision_id in decisions:
        background.feedback_later(decision_id, 1)
    assert background.flush(20.0)
    assert batches(proxy) == [10, 8]
    assert [one.status for one in failed] == ["refused"] * 8


@pytest.mark.parametrize(
    "faults",
    [
        [unavailable(), unavailable(retry_after=0), unavailable(status=500)],
        [LOSE_ANSWER, RESET_MID_ANSWER],
    ],
)
def test_platform__answers_5xx_or_loses_answers__loses_nothing(
    made: Made,
    client: Client,
    proxy: FaultyProxy,
    failed: list[FailedFeedback],
    decisions: list[str],
    faults: list[Fault],
) -> None:
    proxy.goes_wrong(*faults)
    background = made()
    for decision_id in decisions:
        background.feedback_later(decision_id, 1)
    assert background.flush(30.0)
    assert failed == []
    assert recorded(client, decisions)
    assert len(proxy.requests) == len(faults) + 1


def test_platform__away_for_longer_than_is_tried__is_told(
    made: Made, proxy: FaultyProxy, failed: list[FailedFeedback], decisions: list[str]
) -> None:
    proxy.goes_wrong(*[unavailable()] * 50)
    background = made(retry_seconds=0.3, seconds=0.0)
    background.feedback_later(decisions[0], 1)
    assert background.flush(20.0)
    assert [one.status for one in failed] == ["unreachable"]


def test_key__not_valid__is_told_at_once(proxy: FaultyProxy, failed: list[FailedFeedback]) -> None:
    with Client(proxy.url, "nr_wrong", on_feedback_failed=failed.append) as client:
        client.feedback_later("d", 1)
        assert client.flush(20.0)
    assert [one.status for one in failed] == ["refused"]
    assert "401" in failed[0].message
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("status", [400, 413])
def test_body__refused_whole_by_the_platform__is_halved(
    made: Made, client: Client, proxy: FaultyProxy, failed: list[FailedFeedback], decisions: list[str], status: int
) -> None:
    proxy.goes_wrong(answered(status, {"title": "For one item of it"}))
    background = made()
    for decision_id in decisions:
        background.feedback_later(decision_id, 1)
    assert background.flush(20.0)
    assert batches(proxy) == [10, 5, 5]
    assert failed == []
    assert recorded(client, decisions)


def test_queue__full__takes_no_more__and_says_so(
    made: Made, client: Client, failed: list[FailedFeedback], decisions: list[str]
) -> None:
    background = made(most_queued=3, seconds=60.0)
    assert [background.feedback_later(decision_id, 1) for decision_id in decisions[:5]] == [True] * 3 + [False] * 2
    assert [(one.feedback.decision_id, one.status) for one in failed] == [
        (decision_id, "queue_full") for decision_id in decisions[3:5]
    ]
    background.close()
    assert recorded(client, decisions[:3])
    with pytest.raises(RuntimeError, match="closed"):
        background.feedback_later(decisions[5], 1)


def test_close__with_the_platform_away__ends_in_time_and_tells_what_was_left(
    made: Made, proxy: FaultyProxy, failed: list[FailedFeedback], decisions: list[str]
) -> None:
    proxy.goes_wrong(*[unavailable()] * 200)
    background = made(size=4, seconds=0.0)
    for decision_id in decisions:
        background.feedback_later(decision_id, 1)
    background.close(timeout=0.5)
    assert len(failed) == 10
    assert {one.status for one in failed} <= {"unreachable", "closed"}
    assert {one.feedback.decision_id for one in failed} == set(decisions)


def test_callback__that_raises__ends_nothing(
    proxy: FaultyProxy, client: Client, key: str, decisions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    def explode(one: FailedFeedback) -> None:
        raise RuntimeError("callers make faults")

    with Client(proxy.url, key, on_feedback_failed=explode) as background:
        background.feedback_later("forged", 1)
        assert background.flush(20.0)
        background.feedback_later(decisions[0], 1)
        assert background.flush(20.0)
    assert "callers make faults" in caplog.text
    assert recorded(client, decisions[:1])


def test_many_threads__lose_and_double_nothing(
    made: Made, client: Client, proxy: FaultyProxy, failed: list[FailedFeedback], decisions: list[str]
) -> None:
    background = made(size=7, seconds=0.01)
    pieces = [(decision_id, f"m{i}") for decision_id in decisions for i in range(12)]

    def say(part: int) -> None:
        for decision_id, metric in pieces[part::4]:
            background.feedback_later(decision_id, 1, metric=metric)

    threads = [threading.Thread(target=say, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert background.flush(30.0)
    sent = [(item["decision_id"], item["metric"]) for body in proxy.bodies() for item in body["feedback"]]
    assert sorted(sent) == sorted(pieces)
    assert failed == []


SCRIPT = """
import os, sys
from noregret_client import Batching, Client
client = Client(timeout=30.0, batching=Batching(seconds=60.0, close_seconds=60.0))
parent, child, pooled = sys.argv[1:]
client.feedback_later(parent, 1)
def reward(decision_id):
    client.feedback_later(decision_id, 1)
pid = os.fork()
if pid == 0:
    reward(child)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=reward, args=(pooled,))
process.start()
process.join()
"""


def test_exit__of_a_process_and_of_those_it_forked__sends_what_each_queued__once(
    running: RunningPlatform, client: Client, proxy: FaultyProxy, key: str, decisions: list[str]
) -> None:
    found = subprocess.run(
        # Later Pythons warn of every fork beside threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT, *decisions[:3]],
        env=os.environ | {"PYTHONPATH": str(SOURCE), "NOREGRET_URL": proxy.url, "NOREGRET_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    sent = [[item["decision_id"] for item in body["feedback"]] for body in proxy.bodies()]
    assert sorted(sent) == sorted([[decision_id] for decision_id in decisions[:3]])
    assert recorded(client, decisions[:3])
