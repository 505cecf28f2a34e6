"""Rewards of calls that wait at the same moment share a commit, and nothing else."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection
from noregret.experiments.models import Experiment

from serving.ledger.group_commit import GroupCommit, NotTold
from serving.ledger.rewards import SMALL, LedgerUnavailable, NewReward, RewardWriter
from serving.models import Reward
from serving.tokens import new_id
from tests.conftest import Api
from tests.serving.test_when_things_break import wait_for

Start = Callable[..., Experiment]
FEEDBACK = "/api/v1/feedback"


class Committing:
    """Commits by adding 100 to each row. Each group waits for `open`; a group with a row that is
    negative fails."""

    def __init__(self, shared: Callable[[Exception], Exception | None] = lambda error: None) -> None:
        self.groups: list[list[int]] = []
        self.open = threading.Event()
        self.together: GroupCommit[int, int] = GroupCommit(self._write, shared)
        self.threads = ThreadPoolExecutor(24)

    def _write(self, rows: Sequence[int]) -> list[int]:
        self.groups.append(list(rows))
        assert self.open.wait(10)
        if min(rows) < 0:
            raise ValueError(f"{min(rows)} is negative")
        return [row + 100 for row in rows]

    def send(self, *rows: int, seconds: float = 10.0) -> "Future[Sequence[int]]":
        return self.threads.submit(self.together.commit, rows, seconds)

    def send_while_one_commits(self, *calls: Sequence[int]) -> "list[Future[Sequence[int]]]":
        """The calls, all of which wait for the same leader."""
        first = self.send(0)
        assert wait_for(lambda: self.groups == [[0]])
        sent = [first]
        for rows in calls:
            sent.append(self.send(*rows))
            assert wait_for(lambda: len(self.together._waiting) == len(sent) - 1)
        return sent


@pytest.fixture(autouse=True)
def _patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody overtakes while a test lines its calls up, but where it is about that."""
    if "overtak" not in request.node.name:
        monkeypatch.setattr("serving.ledger.group_commit.PATIENCE_SECONDS", 10.0)


def test_calls__one_after_another__are_groups_of_their_own() -> None:
    committing = Committing()
    committing.open.set()
    assert [committing.send(i).result(10) for i in range(3)] == [[100], [101], [102]]
    assert committing.groups == [[0], [1], [2]]


def test_calls__that_come_while_one_commits__are_one_group_and_each_is_told_of_its_own_rows() -> None:
    committing = Committing()
    sent = committing.send_while_one_commits([1], [2, 3], [], [4])
    assert not any(call.done() for call in sent)
    committing.open.set()
    assert [call.result(10) for call in sent] == [[100], [101], [102, 103], [], [104]]
    assert committing.groups == [[0], [1, 2, 3, 4]]


def test_calls__of_more_rows_than_a_group_takes__are_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.ledger.group_commit.MOST_ROWS", 4)
    committing = Committing()
    sent = committing.send_while_one_commits([1, 2], [3], [4, 5, 6], [7], [8, 9, 10, 11, 12])
    committing.open.set()
    assert [len(call.result(10)) for call in sent] == [1, 2, 1, 3, 1, 5]
    assert committing.groups == [[0], [1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12]]


def test_group__with_a_bad_row__fails_for_nobody_else() -> None:
    committing = Committing()
    sent = committing.send_while_one_commits([1], [-2], [3], [4, -5])
    committing.open.set()
    assert [sent[i].result(10) for i in (0, 1, 3)] == [[100], [101], [103]]
    for i in (2, 4):
        with pytest.raises(ValueError, match="is negative"):
            sent[i].result(10)
    assert committing.groups[:2] == [[0], [1, -2, 3, 4, -5]]
    assert sorted(committing.groups[2:]) == [[-2], [1], [3], [4, -5]]


def test_group__whose_failure_is_everybodys__is_not_tried_again() -> None:
    committing = Committing(shared=lambda error: LedgerUnavailable(str(error)))
    sent = committing.send_while_one_commits([1], [-2])
    committing.open.set()
    errors = [call.exception(10) for call in sent]
    assert [type(error) for error in errors] == [type(None), LedgerUnavailable, LedgerUnavailable]
    assert errors[1] is not errors[2]  # each is raised in a thread of its own
    assert committing.groups == [[0], [1, -2]]


def test_call__whose_leader_does_not_come_back__is_told_so_in_time() -> None:
    committing = Committing()
    committing.open.set()
    slow = threading.Event()
    write = committing.together._write
    committing.together._write = lambda rows: write(rows) if 1 not in rows or slow.wait(10) else []
    committing.open.clear()
    first = committing.send(0)
    assert wait_for(lambda: committing.groups == [[0]])
    leader = committing.send(1)
    assert wait_for(lambda: len(committing.together._waiting) == 1)
    follower = committing.send(2, seconds=0.5)
    assert wait_for(lambda: len(committing.together._waiting) == 2)
    committing.open.set()
    with pytest.raises(NotTold):
        follower.result(10)
    assert (first.result(10), leader.done()) == ([100], False)
    slow.set()
    assert leader.result(10) == [101]
    assert committing.send(3).result(10) == [103]


def test_leader__that_is_slow__is_overtaken() -> None:
    committing = Committing()
    slow = threading.Event()
    write = committing.together._write
    committing.together._write = lambda rows: write(rows) if 0 not in rows or slow.wait(10) else []
    committing.open.set()
    first = committing.send(0)
    others = [committing.send(i) for i in range(1, 9)]
    assert [call.result(10) for call in others] == [[100 + i] for i in range(1, 9)]
    assert not first.done()
    slow.set()
    assert first.result(10) == [100]


@pytest.mark.parametrize("overtaking", [False, True])
def test_calls__of_many_threads_with_bad_ones_among_them__are_each_told_what_is_theirs(
    overtaking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.ledger.group_commit.PATIENCE_SECONDS", 0.0005 if overtaking else 10.0)
    lock, sizes, stored = threading.Lock(), Counter[int](), Counter[int]()

    def write(rows: Sequence[int]) -> list[int]:
        time.sleep(random.random() * 0.002)
        if min(rows) < 0:
            raise ValueError("negative")
        with lock:
            sizes[len(rows)] += 1
            stored.update(rows)
        return [row + 100 for row in rows]

    together: GroupCommit[int, int] = GroupCommit(write, lambda error: None)

    def calls(thread: int) -> int:
        failed = 0
        for i in range(100):
            bad = i % 25 == thread
            row = -1 if bad else thread * 1000 + i
            try:
                assert together.commit([row], 10.0) == [row + 100]
            except ValueError:
                failed += 1
                assert bad
        return failed

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(calls, range(12))) == [4] * 12
    assert set(stored.values()) == {1}
    assert len(stored) == 12 * 96
    assert max(sizes) > 1


# On PostgreSQL.


@pytest.fixture
def writer(platform: None) -> Iterator[RewardWriter]:
    made = RewardWriter(connection.settings_dict, size=4)
    yield made
    made.close()


def new_reward(metric: str = "reward", value: float = 1.0, identity: bytes = b"") -> NewReward:
    identity = identity or new_id()
    at = int.from_bytes(identity[:8], "big")
    return NewReward(identity, at, 1, 2, metric, value, None, 600.0, learned=True, named=frozenset((metric,)))


def transactions() -> list[int]:
    """Rows of each transaction that wrote any."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM serving_reward GROUP BY xmin::text")
        return [row[0] for row in cursor.fetchall()]


def test_feedback__of_many_threads_on_the_same_decisions__is_recorded_once_and_told_alike(
    alice: Api, two_arms: Start
) -> None:
    two_arms()
    decisions = [str(alice.post("/api/v1/endpoints/pages/decide", {})["decision_id"]) for _ in range(12)]

    def send(thread: int) -> list[tuple[str, int, int]]:
        told = []
        order = random.Random(thread).sample(decisions, len(decisions))
        try:
            for decision in order:
                value = thread % 2
                told.append((decision, value, alice.post(FEEDBACK, {"decision_id": decision, "value": value}).status))
        finally:
            connection.close()
        return told

    with ThreadPoolExecutor(8) as threads:
        told = [one for answers in threads.map(send, range(8)) for one in answers]
    for decision in decisions:
        statuses = [(value, status) for one, value, status in told if one == decision]
        (recorded,) = [value for value, status in statuses if status == 202]
        rest = Counter(statuses) - Counter([(recorded, 202)])
        assert rest == {(recorded, 200): 3, (1 - recorded, 409): 4}
    assert Reward.objects.count() == 12


def test_rewards__of_threads_that_write_at_once__share_transactions(writer: RewardWriter) -> None:
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: writer.write([new_reward()]), range(400)))
    assert outcomes == [["recorded"]] * 400
    sizes = transactions()
    assert sum(sizes) == 400
    assert len(sizes) < 200


def test_reward__that_waits_for_a_lock_and_one_that_is_refused__are_overtaken_and_harm_nobody(
    writer: RewardWriter,
) -> None:
    held = new_reward()
    writer.write([new_reward()])
    parameters: dict[str, Any] = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**parameters) as other, ThreadPoolExecutor(10) as threads:
        other.execute(
            "INSERT INTO serving_reward (decision_id, decided_at, metric, experiment_id, arm_id, value, recorded_at, "
            "late, defaulted, folded, matured) VALUES (%s, 'epoch'::timestamptz + %s * interval '1 microsecond', "
            "'reward', 1, 2, 0, now(), false, false, false, false)",
            (held.decision_id.hex(), held.decided_at_us),
        )
        waits = threads.submit(writer.write, [held])
        time.sleep(0.1)
        good = [threads.submit(writer.write, [new_reward()]) for _ in range(6)]
        bad = threads.submit(writer.write, [new_reward(metric="m" * 64)])
        assert [call.result(10) for call in good] == [["recorded"]] * 6
        with pytest.raises(LedgerUnavailable, match="too long"):
            bad.result(10)
        assert not waits.done()
        other.rollback()
        assert waits.result(10) == ["recorded"]
    assert Reward.objects.count() == 8


def test_batches__of_the_same_rewards_in_other_orders__never_wait_for_each_other_in_a_circle(platform: None) -> None:
    rounds = [[new_reward() for _ in range(SMALL + 10)] for _ in range(15)]
    together = threading.Barrier(4)

    def send(seed: int) -> list[str]:
        own = RewardWriter(connection.settings_dict, size=1)
        try:
            outcomes: list[str] = []
            for rewards in rounds:
                shuffled = random.Random(seed).sample(rewards, len(rewards))
                together.wait(20)
                outcomes += own.write(shuffled)
            return outcomes
        finally:
            own.close()

    with ThreadPoolExecutor(4) as threads:
        told = Counter(one for outcomes in threads.map(send, range(4)) for one in outcomes)
    rewards = len(rounds) * len(rounds[0])
    assert told == {"recorded": rewards, "duplicate": 3 * rewards}
